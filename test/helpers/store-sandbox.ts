/**
 * Throw-away stores, content of known chunks, a look at what lies in a store, other processes that
 * work on it, and system calls that fail when told to.
 */
import { fork } from 'node:child_process';
import { createCipheriv, createHash } from 'node:crypto';
import { once } from 'node:events';
import fs, {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { Chunker } from '../../src/xet/chunk/chunker.ts';
import { MIN_CHUNK } from '../../src/xet/chunk/limits.ts';
import { decompressChunk } from '../../src/xet/compress/scheme.ts';
import { Downloader, type DownloadOptions } from '../../src/xet/download.ts';
import { blake3Keyed } from '../../src/xet/hash/blake3.ts';
import { DATA_KEY } from '../../src/xet/hash/keys.ts';
import { fileHash } from '../../src/xet/hash/merkle.ts';
import { verificationHash } from '../../src/xet/hash/verification.ts';
import { formatHash, parseHash } from '../../src/xet/hash/xet-hash.ts';
import { ShardBuilder } from '../../src/xet/shard/builder.ts';
import { shardName } from '../../src/xet/shard/shard.ts';
import { LocalStore } from '../../src/xet/store/local-store.ts';
import { recordStart } from '../../src/xet/store/xorb-source.ts';
import type { StoredResult } from '../../src/xet/file-upload.ts';
import { Uploader, type UploadOptions } from '../../src/xet/upload.ts';
import { CHUNK_HEADER_SIZE, decodeChunkHeader } from '../../src/xet/xorb/format.ts';

export const QUICK: UploadOptions = { compression: 'none', fsync: 'none' };

// Content

/** The same bytes for the same seed; they do not compress and have no chunk in common with another seed's. */
export function randomBytes(seed: number | string, size: number): Buffer {
  const key = createHash('sha256').update(`content ${seed}`).digest().subarray(0, 16);
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(size));
}

/** Ends of the chunks of `bytes`, in plain JavaScript: what everything faster is compared with. */
export function chunkEnds(bytes: Uint8Array): number[] {
  const chunker = new Chunker();
  const lengths = chunker.push(bytes);
  const last = chunker.finish();
  if (last !== undefined) lengths.push(last);
  let end = 0;
  return lengths.map((length) => {
    end += length;
    return end;
  });
}

/** The chunks of `bytes`. */
export function chunksOf(bytes: Buffer): Buffer[] {
  let start = 0;
  return chunkEnds(bytes).map((end) => {
    const chunk = bytes.subarray(start, end);
    start = end;
    return chunk;
  });
}

export function chunkHash(bytes: Uint8Array): Uint8Array {
  return blake3Keyed(DATA_KEY, bytes);
}

/** The file hash of `bytes`, string form, by the slow way. */
export function hashOf(bytes: Uint8Array): string {
  const chunks = chunksOf(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length));
  const lengths = chunks.map((chunk) => chunk.length);
  return formatHash(fileHash(Buffer.concat(chunks.map(chunkHash)), lengths, lengths.length));
}

/** 64 bytes after which the gear hash asks for a boundary, whatever came before them. */
let trigger: Buffer | undefined;

function boundaryTrigger(): Buffer {
  for (let seed = 0; trigger === undefined; seed++) {
    const bytes = randomBytes(`trigger ${seed}`, 1 << 18);
    let start = 0;
    for (const end of chunkEnds(bytes)) {
      if (end < bytes.length && end - start < 131072) trigger = Buffer.from(bytes.subarray(end - 64, end));
      start = end;
    }
  }
  return trigger;
}

/**
 * A chunk of `length` bytes (8192 to 131072) that ends with a boundary, the same for the same name.
 * Any sequence of them has exactly them as its chunks.
 */
export function chunk(name: number | string, length = MIN_CHUNK): Buffer {
  const bytes = Buffer.alloc(length, createHash('sha256').update(`chunk ${name}`).digest());
  boundaryTrigger().copy(bytes, length - 64);
  return bytes;
}

/** The chunks named `<prefix><first>` ... up to `<prefix><end - 1>`, one after the other. */
export function chunkRun(prefix: string, first: number, end: number, length = MIN_CHUNK): Buffer {
  return Buffer.concat(Array.from({ length: end - first }, (_, i) => chunk(`${prefix}${first + i}`, length)));
}

// Stores

export interface StoreSandbox {
  readonly dir: string;
  /** Root of the store, inside `dir`. */
  readonly root: string;
  /** A LocalStore that knows nothing yet; closed when the test ends. */
  open(root?: string): LocalStore;
  uploader(options?: Partial<UploadOptions>): Uploader;
  /** Cleans contents in a session of its own, and seals it. */
  add(...contents: readonly Uint8Array[]): Promise<StoredResult[]>;
  /** All bytes of a file, by a store that knows nothing yet. */
  read(hash: string, options?: DownloadOptions): Buffer;
  /** As read, by other code that knows no kernels, threads or second tries; undefined when something is missing or wrong. */
  tryRead(hash: string): Buffer | undefined;
  /** Another process on the store. */
  process(): Promise<StoreProcess>;
  /** Relative path -> digest of every file under the store; `ignore` by beginning of the path. */
  tree(ignore?: readonly string[]): Record<string, string>;
  /** Names in a directory of the store, sorted; empty where it does not exist. */
  list(...path: readonly string[]): string[];
}

export function createStore(t: ExecutionContext): StoreSandbox {
  const dir = mkdtempSync(join(tmpdir(), 'git2db-store-'));
  const root = join(dir, 'xet');
  const stores: LocalStore[] = [];
  t.teardown(() => {
    for (const store of stores) store.close();
    rmSync(dir, { recursive: true, force: true });
  });
  function open(at = root): LocalStore {
    const store = new LocalStore(at);
    stores.push(store);
    return store;
  }
  function read(hash: string, options: DownloadOptions = {}): Buffer {
    return readAll(new Downloader(open(), options), hash);
  }
  return {
    dir,
    root,
    open,
    read,
    uploader: (options = {}) => new Uploader(open(), { ...QUICK, ...options }),
    async add(...contents) {
      const uploader = new Uploader(open(), QUICK);
      const results = contents.map((bytes) => clean(uploader, bytes));
      await uploader.seal();
      return results;
    },
    tryRead: (hash) => readPlainly(open(), hash),
    process: () => startProcess(t, root),
    tree: (ignore = []) => treeOf(root, ignore),
    list(...path) {
      try {
        return readdirSync(join(root, ...path)).sort();
      } catch {
        return [];
      }
    },
  };
}

/** Cleans one content. */
export function clean(uploader: Uploader, bytes: Uint8Array, sizeHint = 0): StoredResult {
  const upload = uploader.begin(sizeHint);
  try {
    upload.write(bytes);
    return upload.finish();
  } catch (error) {
    upload.abort();
    throw error;
  }
}

/** A xorb as another program may have made it: its bytes with a footer, and what its footer says. */
export interface ForeignXorb {
  readonly bytes: Uint8Array;
  readonly xorbHash: Uint8Array;
  readonly hashes: Uint8Array;
  readonly lengths: Uint32Array;
  readonly storedBytes: number;
}

/** Puts a xorb into a store, and a shard that makes one file of all its chunks. The file's hash. */
export function addForeign(sandbox: StoreSandbox, xorb: ForeignXorb): string {
  const { layout } = sandbox.open();
  layout.create();
  const path = layout.xorb(formatHash(xorb.xorbHash));
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, xorb.bytes);
  const { hashes, lengths, xorbHash } = xorb;
  const hash = fileHash(hashes, lengths);
  const shard = new ShardBuilder();
  shard.addXorb(xorb);
  shard.addFile({
    fileHash: hash,
    terms: [{ xorbHash, start: 0, end: lengths.length, rawBytes: lengths.reduce((sum, n) => sum + n, 0) }],
    verification: [verificationHash(hashes, 0, lengths.length)],
  });
  const bytes = shard.build({ createdAt: 0 });
  writeFileSync(layout.shard(shardName(bytes)), bytes);
  return formatHash(hash);
}

/** All bytes of a file. */
export function readAll(downloader: Downloader, hash: string): Buffer {
  const parts: Buffer[] = [];
  for (const window of downloader.read(downloader.plan(parseHash(hash)))) {
    for (const bytes of window.chunks) parts.push(Buffer.from(bytes));
  }
  return Buffer.concat(parts);
}

function readPlainly(store: LocalStore, hash: string): Buffer | undefined {
  next: for (const file of store.findFiles(parseHash(hash))) {
    const parts: Buffer[] = [];
    try {
      for (const term of file.terms) {
        const source = term.open();
        const bytes = readFileSync(source.path);
        for (let i = term.start; i < term.end; i++) {
          const at = recordStart(source, i);
          const { scheme, rawLength } = decodeChunkHeader(bytes, at);
          const payload = bytes.subarray(at + CHUNK_HEADER_SIZE, recordStart(source, i + 1));
          const raw = decompressChunk(scheme, payload, rawLength);
          if (Buffer.compare(chunkHash(raw), source.hashes.subarray(32 * i, 32 * i + 32)) !== 0)
            continue next;
          parts.push(Buffer.from(raw));
        }
      }
    } catch {
      continue;
    }
    const content = Buffer.concat(parts);
    if (hashOf(content) === hash) return content;
  }
  return undefined;
}

/** Relative path -> digest of the bytes, or what else it is. */
export function treeOf(root: string, ignore: readonly string[] = []): Record<string, string> {
  const found: Record<string, string> = {};
  const visit = (relative: string) => {
    for (const name of readdirSync(join(root, relative)).sort()) {
      const path = join(relative, name);
      if (ignore.some((prefix) => path.startsWith(prefix))) continue;
      const stat = lstatSync(join(root, path));
      if (stat.isDirectory()) {
        found[path] = 'directory';
        visit(path);
      } else {
        found[path] = stat.isFile()
          ? createHash('sha256')
              .update(readFileSync(join(root, path)))
              .digest('hex')
          : 'special';
      }
    }
  };
  visit('');
  return found;
}

/** The same tree with the writers' sockets left out, as a backup would have it. */
export function copyTree(from: string, to: string): void {
  fs.cpSync(from, to, {
    recursive: true,
    preserveTimestamps: true,
    filter: (path) => !lstatSync(path).isSocket(),
  });
}

// Other processes

/** A child that does what it is told by store-process.ts, one call at a time. */
export interface StoreProcess {
  readonly pid: number;
  /** Cleans content; it is acknowledged when this resolves. */
  add(bytes: Uint8Array): Promise<StoredResult>;
  /** Writes content of a file that is not finished. */
  begin(bytes: Uint8Array): Promise<void>;
  /** Seals; resolves with its warnings. The next add opens another writer. */
  seal(): Promise<string[]>;
  /** Publishes the catalog `count` times. */
  publish(count: number): Promise<void>;
  /** Ends it by SIGKILL. */
  kill(): Promise<void>;
}

async function startProcess(t: ExecutionContext, root: string): Promise<StoreProcess> {
  const child = fork(new URL('./store-process.js', import.meta.url), [root], { serialization: 'advanced' });
  t.teardown(() => child.kill('SIGKILL'));
  await once(child, 'message');
  async function call(name: string, argument?: unknown): Promise<unknown> {
    child.send({ name, argument });
    const [answer] = (await once(child, 'message')) as [{ result?: unknown; error?: string }];
    if (answer.error !== undefined) throw new Error(answer.error);
    return answer.result;
  }
  return {
    pid: child.pid as number,
    add: (bytes) => call('add', bytes) as Promise<StoredResult>,
    begin: (bytes) => call('begin', bytes) as Promise<void>,
    seal: () => call('seal') as Promise<string[]>,
    publish: (count) => call('publish', count) as Promise<void>,
    async kill() {
      const gone = once(child, 'exit');
      child.kill('SIGKILL');
      await gone;
    },
  };
}

// Faults

type FsFunction = keyof typeof fs;

/**
 * Replaces functions of node:fs, for this process and for all modules, until `restore` or the end of
 * the test. Only for serial tests. `original` is the function that was replaced.
 */
export function injectFault<K extends FsFunction>(
  t: ExecutionContext,
  name: K,
  // biome-ignore lint/suspicious/noExplicitAny: stands in for functions of any shape
  replacement: (original: any, ...args: any[]) => unknown,
): () => void {
  const table = fs as unknown as Record<string, unknown>;
  const original = table[name];
  table[name] = (...args: unknown[]) => replacement(original, ...args);
  syncBuiltinESMExports();
  const restore = () => {
    table[name] = original;
    syncBuiltinESMExports();
  };
  t.teardown(restore);
  return restore;
}

/** An error as the system would give it. */
export function systemError(code: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${code}: injected`), { code });
}
