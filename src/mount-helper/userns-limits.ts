/** What keeps ordinary users from having user namespaces, as systems switch them off. */
import { readFileSync } from 'node:fs';

export interface UsernsLimit {
  /** The setting, as sysctl(8) names it. */
  readonly setting: string;
  readonly value: string;
  /** In words, after "user namespaces are". */
  readonly meaning: string;
  /** Run as root. */
  readonly remedy: string;
}

const LIMITS: readonly (Omit<UsernsLimit, 'value'> & { readonly forbids: RegExp })[] = [
  {
    setting: 'user.max_user_namespaces',
    forbids: /^0$/,
    meaning: 'limited to none',
    remedy: 'sysctl -w user.max_user_namespaces=15000',
  },
  {
    setting: 'kernel.unprivileged_userns_clone',
    forbids: /^0$/,
    meaning: 'for root alone',
    remedy: 'sysctl -w kernel.unprivileged_userns_clone=1',
  },
  {
    setting: 'kernel.apparmor_restrict_unprivileged_userns',
    forbids: /^[1-9]/,
    meaning: 'without rights, but for programs that an AppArmor profile names',
    remedy: 'sysctl -w kernel.apparmor_restrict_unprivileged_userns=0',
  },
];

export type ReadText = (path: string) => string | undefined;

/** Those in force; a setting that the kernel does not have forbids nothing. */
export function findUsernsLimits(read: ReadText = readText): UsernsLimit[] {
  return LIMITS.flatMap(({ forbids, ...limit }) => {
    const value = read(`/proc/sys/${limit.setting.replaceAll('.', '/')}`)?.trim();
    return value !== undefined && forbids.test(value) ? [{ ...limit, value }] : [];
  });
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return undefined;
  }
}
