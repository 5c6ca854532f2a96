/** Entry point `git2db/xet`. */
export { Chunker } from './chunk/chunker.ts';
export { Downloader } from './download.ts';
export { type ErrorCode, FormatError, Git2dbError } from './errors.ts';
export { formatHash, parseHash } from './hash/xet-hash.ts';
export { type Pointer, sniffPointer } from './pointer/sniff.ts';
export { formatPointer } from './pointer/xet-pointer.ts';
export { LocalStore } from './store/local-store.ts';
export { Uploader } from './upload.ts';
