/** What LFS servers and pointers talk about: a content's SHA-256 and its size. */
import type { RepositoryPaths } from '../git/repository.ts';
import type { Git2dbError } from '../xet/errors.ts';

export interface LfsObject {
  /** 64 lower-case digits. */
  readonly sha256: string;
  /** Bytes. */
  readonly size: number;
}

/** `present`: the other side (of a push), or this one (of a fetch), had it. `moved`: it has it now. */
export interface LfsOutcome extends LfsObject {
  readonly outcome: 'present' | 'moved' | 'failed';
  /** Why it failed. */
  readonly error?: Git2dbError;
}

/** For whom and where. */
export interface LfsPlace {
  readonly repository: RepositoryPaths;
  /** Where git runs. */
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
  /** Whether git may ask for a password. */
  readonly mayPrompt: boolean;
  /** Whether the user has said that this URL, on another authority than the git remote, may be used. */
  readonly isTrusted: (url: string) => boolean;
}

export interface LfsTransferOptions {
  readonly signal?: AbortSignal | undefined;
  /** Told of each object as soon as it is dealt with. */
  readonly onFile?: ((outcome: LfsOutcome) => void) | undefined;
  /** Bytes of content that were moved since the last call. */
  readonly onProgress?: ((bytes: number) => void) | undefined;
  /** Told of trouble that makes nothing fail. */
  readonly warn?: ((message: string) => void) | undefined;
}
