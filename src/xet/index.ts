/** Entry point `git2db/xet`. */
export { Chunker } from './chunk/chunker.ts';
export type { CompressionMode } from './compress/scheme.ts';
export { Downloader } from './download.ts';
export { type ErrorCode, FormatError, Git2dbError } from './errors.ts';
export { formatHash, parseHash } from './hash/xet-hash.ts';
export { type Pointer, sniffPointer } from './pointer/sniff.ts';
export { formatPointer } from './pointer/xet-pointer.ts';
export { initialize, isInitialized, sharedStorage } from './shared-storage.ts';
export { LocalStore } from './store/local-store.ts';
export { Uploader } from './upload.ts';
export { XetConfig } from './xet-config.ts';
export { XetError, type XetErrorKind } from './xet-error.ts';
export { isXetPointer, type StorageOptions, XetStorage } from './xet-storage.ts';
