/** Commands whose failure is told on stdout as well as stderr, or is an ordinary answer. */
import type { GitArg } from '../../git/byte-words.ts';
import { classify } from '../../git/classify.ts';
import { failureOf } from '../../git/failure.ts';
import { type ErrorCode, Git2dbError } from '../../xet/errors.ts';
import { tellFullDisk } from '../full-disk.ts';
import type { GitPlace, PlaceRun } from '../git-place.ts';

export interface Outcome {
  readonly status: number;
  readonly stdout: Buffer;
  readonly stderr: string;
  /** What the failure is; undefined when git's words are not known, or when there is none. */
  readonly code: ErrorCode | undefined;
  /** For a status that is no answer after all. */
  error(code?: ErrorCode): Error;
}

const ANY_STATUS = Array.from({ length: 256 }, (_, status) => status);

/** Runs git and comes back whatever its status is. Rejects only when git could not be run, or was stopped. */
export async function attempt(
  place: GitPlace,
  args: readonly GitArg[],
  options: PlaceRun = {},
): Promise<Outcome> {
  const { status, stdout, stderr } = await place.git(args, { ...options, okStatus: ANY_STATUS });
  const said = `${stdout.toString('utf8', Math.max(0, stdout.length - 65536))}\n${stderr}`;
  const code = status === 0 ? undefined : (classify(stderr) ?? classify(said));
  return {
    status,
    stdout,
    stderr,
    code,
    error(other) {
      const failure = failureOf(args, { cwd: place.workTree ?? place.gitDir }, status, null, said);
      if (!(failure instanceof Git2dbError)) return failure ?? new Git2dbError('GIT_FAILED', said.trim());
      const named = other ?? code;
      const classified =
        named === undefined
          ? failure
          : new Git2dbError(named, failure.message, { cause: failure, data: failure.data });
      return tellFullDisk(classified, [place.gitDir, place.workTree]) as Error;
    },
  };
}
