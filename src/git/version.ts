/** Which git there is, and whether it is new enough. */
import { Git2dbError } from '../xet/errors.ts';
import { gitText } from './runner.ts';

let version: Promise<string> | undefined;

/** The version of the git on PATH, such as `2.39.5`. Asked once in a process. */
export function gitVersion(): Promise<string> {
  version ??= gitText(['--version']).then((text) => /(\d+(?:\.\d+)+)/.exec(text)?.[1] ?? text);
  version.catch(() => {
    version = undefined;
  });
  return version;
}

/** Whether git is at least `minimum` (`2.36`). */
export async function gitAtLeast(minimum: string): Promise<boolean> {
  return compareVersions(await gitVersion(), minimum) >= 0;
}

/** Throws GIT_MISSING unless git is at least `minimum`, naming the `feature` that needs it. */
export async function requireGit(minimum: string, feature: string): Promise<void> {
  if (await gitAtLeast(minimum)) return;
  const found = await gitVersion();
  throw new Git2dbError(
    'GIT_MISSING',
    `${feature} needs git ${minimum} or newer, found ${found}: install a newer git`,
    { data: { minimum, found, feature } },
  );
}

/** Negative, zero or positive as dotted version `a` is older than, equal to or newer than `b`. */
export function compareVersions(a: string, b: string): number {
  const left = a.split('.').map(Number);
  const right = b.split('.').map(Number);
  for (let index = 0; index < Math.max(left.length, right.length); index++) {
    const difference = (left[index] ?? 0) - (right[index] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}
