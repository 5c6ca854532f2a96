/**
 * Owner and mode of a file, kept in an extended attribute where the server may not give the file away:
 * the format that fuse-overlayfs and container engines use for `user.containers.override_stat`.
 *
 *     UID:GID:MODE[:TYPE]    decimal, decimal, octal (type bits count for nothing), a word
 */

export interface OverrideStat {
  readonly uid: number;
  readonly gid: number;
  /** Permissions only. */
  readonly mode: number;
}

const FORM = /^(\d{1,10}):(\d{1,10}):([0-7]{1,8})(?::[\w-]+)?$/;

export function encodeOverrideStat(stat: OverrideStat): Buffer {
  return Buffer.from(`${stat.uid}:${stat.gid}:${(stat.mode & 0o7777).toString(8)}`);
}

/** Undefined for what is not of this form: then the file's own owner and mode count. */
export function decodeOverrideStat(value: Uint8Array): OverrideStat | undefined {
  const match = FORM.exec(Buffer.from(value).toString('latin1'));
  if (match === null) return undefined;
  const [uid, gid] = [Number(match[1]), Number(match[2])];
  if (uid >= 0xffffffff || gid >= 0xffffffff) return undefined;
  return { uid, gid, mode: Number.parseInt(match[3]!, 8) & 0o7777 };
}
