/**
 * Git LFS pointers (Git LFS specification, "The Pointer"), version 1, under 1024 bytes:
 *
 *     version https://git-lfs.github.com/spec/v1
 *     ext-<0..9>-<name> sha256:<64 lower-case digits>      (any number, one for each extension)
 *     oid sha256:<64 lower-case digits>
 *     size <bytes>
 *
 * Every line ends with a newline; after the first, keys are in alphabetical order. The SHA-256 is that
 * of the content and never a Xet hash.
 */
import { Git2dbError } from '../errors.ts';

export interface LfsPointer {
  readonly kind: 'lfs';
  /** 64 lower-case digits. */
  readonly sha256: string;
  /** Bytes of the content. */
  readonly size: number;
}

/** A text of this many bytes is not a pointer any more. */
const LFS_POINTER_END = 1024;

const LFS_POINTER =
  /^version https:\/\/git-lfs\.github\.com\/spec\/v1\n((?:ext-[0-9]-[0-9A-Za-z_]+ sha256:[0-9a-f]{64}\n)*)oid sha256:([0-9a-f]{64})\nsize (0|[1-9][0-9]{0,15})\n$/;

/** The canonical pointer; throws INVALID_POINTER if hash or size cannot stand in one. */
export function formatLfsPointer(sha256: string, size: number): Buffer {
  if (!/^[0-9a-f]{64}$/.test(sha256)) {
    throw new Git2dbError(
      'INVALID_POINTER',
      `an LFS pointer needs a SHA-256 of 64 lower-case digits, not ${JSON.stringify(sha256)}`,
    );
  }
  if (!Number.isSafeInteger(size) || size < 0) {
    throw new Git2dbError('INVALID_POINTER', `an LFS pointer needs a size in whole bytes, not ${size}`);
  }
  return Buffer.from(
    `version https://git-lfs.github.com/spec/v1\noid sha256:${sha256}\nsize ${size}\n`,
    'latin1',
  );
}

/** `text`: the whole content, one character per byte. */
export function parseLfsPointer(text: string): LfsPointer | undefined {
  if (text.length >= LFS_POINTER_END) return undefined;
  const match = LFS_POINTER.exec(text);
  if (match === null) return undefined;
  const [, extensions, sha256, digits] = match as unknown as [string, string, string, string];
  const size = Number(digits);
  if (!Number.isSafeInteger(size) || !prioritiesAscend(extensions)) return undefined;
  return { kind: 'lfs', sha256, size };
}

/** Alphabetical order of the keys is the order of their priorities, and two of one priority are an error. */
function prioritiesAscend(extensions: string): boolean {
  let last = -1;
  for (const [, digit] of extensions.matchAll(/^ext-([0-9])/gm)) {
    if (Number(digit) <= last) return false;
    last = Number(digit);
  }
  return true;
}

export interface LooseLfsPointer extends LfsPointer {
  /** It names programs that the content has to go through. */
  readonly hasExtensions: boolean;
}

/** Names that the version line had before the specification had its own. */
const VERSIONS: ReadonlySet<string> = new Set([
  'https://git-lfs.github.com/spec/v1',
  'https://hawser.github.com/spec/v1',
  'http://git-media.io/v/2',
]);

/**
 * Reads what git-lfs takes for a pointer though no program writes it so today: white space around it, CRLF,
 * blank lines, the older names of the version. Clean gives such a pointer back as it is.
 */
export function parseLooseLfsPointer(bytes: Uint8Array): LooseLfsPointer | undefined {
  if (bytes.length >= LFS_POINTER_END) return undefined;
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1').trim();
  const pairs = text
    .split(/\r?\n/)
    .filter((line) => line !== '')
    .map((line) => /^(\S+) (.*)$/.exec(line));
  const isExtension = (key: string | undefined) => /^ext-[0-9]-\w+$/.test(key ?? '');
  const plain = pairs.filter((pair) => !isExtension(pair?.[1]));
  const [version, oid, size] = plain;
  if (plain.length !== 3 || version?.[1] !== 'version' || oid?.[1] !== 'oid' || size?.[1] !== 'size')
    return undefined;
  if (pairs[0] !== version || !VERSIONS.has(version[2] as string)) return undefined;
  const sha256 = /^sha256:([0-9a-f]{64})$/.exec(oid[2] as string)?.[1];
  const bytesOfContent = /^[0-9]{1,16}$/.test(size[2] as string) ? Number(size[2]) : Number.NaN;
  if (sha256 === undefined || !Number.isSafeInteger(bytesOfContent)) return undefined;
  return { kind: 'lfs', sha256, size: bytesOfContent, hasExtensions: plain.length < pairs.length };
}
