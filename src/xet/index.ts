/** Entry point `git2db/xet`. */

export { type HttpSettings, httpSettingsFrom } from './cas/http-settings.ts';
export { Chunker } from './chunk/chunker.ts';
export type { CompressionMode } from './compress/scheme.ts';
export { Downloader } from './download.ts';
export { type ErrorCode, FormatError, Git2dbError } from './errors.ts';
export { formatHash, parseHash } from './hash/xet-hash.ts';
export { isXetPointer } from './named-file.ts';
export { type Pointer, sniffPointer } from './pointer/sniff.ts';
export { formatPointer } from './pointer/xet-pointer.ts';
export { formatAddress, parseAddress, type RemoteAddress } from './remote/address.ts';
export { type OpenOptions as XetOpenOptions, openRemote, openStore } from './remote/open.ts';
export type {
  FetchOptions as XetFetchOptions,
  Remote as XetRemote,
  SendOptions as XetSendOptions,
} from './remote/remote.ts';
export { initialize, isInitialized, sharedStorage } from './shared-storage.ts';
export { LocalStore } from './store/local-store.ts';
export type { Store } from './store/store.ts';
export { readRange } from './transfer/range.ts';
export type { FileOutcome, TransferEvent, TransferResult, WantedFile } from './transfer/transfer.ts';
export { Uploader } from './upload.ts';
export { XetConfig, type XetConfigOptions } from './xet-config.ts';
export { XetError, type XetErrorKind } from './xet-error.ts';
export { type StorageLifetime, type StorageOptions, XetStorage } from './xet-storage.ts';
