/** Two stores of this machine and one that is elsewhere. */
import type { ExecutionContext } from 'ava';
import { parseHash } from '../../../src/xet/hash/xet-hash.ts';
import { collectGarbage } from '../../../src/xet/store/gc/collect.ts';
import { type FetchFilesOptions, fetchFiles } from '../../../src/xet/transfer/fetch.ts';
import { type PushFilesOptions, pushFiles } from '../../../src/xet/transfer/push.ts';
import type { TransferResult, WantedFile } from '../../../src/xet/transfer/transfer.ts';
import { createStore, type StoreSandbox } from '../../helpers/store-sandbox.ts';
import { PlainStore } from './plain-store.ts';

export interface Rig {
  /** Where contents come from. */
  readonly source: StoreSandbox;
  /** Where they are fetched to. */
  readonly target: StoreSandbox;
  readonly remote: PlainStore;
  /** Adds contents to the source, as files that can be asked for. */
  add(...contents: readonly Uint8Array[]): Promise<WantedFile[]>;
  push(files: readonly WantedFile[], options?: PushFilesOptions): Promise<TransferResult>;
  fetch(files: readonly WantedFile[], options?: Partial<FetchFilesOptions>): Promise<TransferResult>;
  /** Adds and pushes; counts of the remote begin at 0 afterwards. */
  publish(...contents: readonly Uint8Array[]): Promise<WantedFile[]>;
}

export function createRig(t: ExecutionContext): Rig {
  const source = createStore(t);
  const target = createStore(t);
  const remote = new PlainStore();
  const rig: Rig = {
    source,
    target,
    remote,
    async add(...contents) {
      return (await source.add(...contents)).map(({ hash, size }) => ({ hash: parseHash(hash), size }));
    },
    push: (files, options) => pushFiles(source.open(), remote, files, options),
    fetch: (files, options) =>
      fetchFiles(target.open(), remote, files, { writer: { fsync: 'none' }, ...options }),
    async publish(...contents) {
      const files = await rig.add(...contents);
      const { files: outcomes } = await rig.push(files);
      for (const { error } of outcomes) if (error !== undefined) throw error;
      remote.forgetCounts();
      return files;
    },
  };
  return rig;
}

export function outcomes(result: TransferResult): string[] {
  return result.files.map(({ outcome }) => outcome);
}

export function codes(result: TransferResult): (string | undefined)[] {
  return result.files.map(({ error }) => error?.code);
}

/** Collects what no file of `keep` (string form) needs, and moves together what is left. */
export async function collect(root: string, keep: readonly string[]): Promise<void> {
  const needs = async () => ({ files: new Set(keep), sha256s: new Set<string>() });
  await collectGarbage(root, needs, {
    prune: true,
    graceMs: 0,
    waitMs: 5000,
    repack: true,
    fsync: 'none',
    warn: () => {},
  });
}
