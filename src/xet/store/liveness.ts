/**
 * Is the process that made a directory of `incoming/` still alive?
 *
 * Each writer listens on a socket in its directory. The kernel closes it when the process ends,
 * however it ends, and a connection attempt then fails with ECONNREFUSED. Unlike a process id this
 * holds across PID, mount and network namespaces (a socket with a path is found by its inode).
 * It holds for one running kernel, so the boot id is recorded too: after a reboot nothing that
 * wrote to a local file system before can be alive; on a network file system, where the writer may
 * sit on another machine, we cannot know.
 */
import {
  closeSync,
  openSync,
  readFileSync,
  readlinkSync,
  statfsSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import type { Server } from 'node:net';
import { join } from 'node:path';
import { errnoOf } from '../errors.ts';
import { readRegular } from '../regular-file.ts';

const SOCKET = 'alive';
const RECORD = 'writer.json';
/** After this long an unsure writer counts as dead. */
export const UNSURE_MS = 14 * 24 * 3600 * 1000;

/** statfs types of file systems that one kernel at a time can have mounted. */
const LOCAL_FILE_SYSTEMS = new Set([
  0xef53, // ext2, ext3, ext4
  0x58465342, // xfs
  0x9123683e, // btrfs
  0x01021994, // tmpfs
  0xf2f52010, // f2fs
  0x2fc12fc1, // zfs
  0xca451a4e, // bcachefs
]);

interface WriterRecord {
  readonly pid: number;
  readonly pidNamespace: string;
  readonly bootId: string;
  readonly socket: boolean;
}

function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
  } catch {
    return '';
  }
}

function pidNamespace(): string {
  try {
    return readlinkSync('/proc/self/ns/pid');
  } catch {
    return '';
  }
}

/** Path of the socket that fits into the 108 bytes of sockaddr_un whatever the store's path is. */
function shortPath(directoryFd: number, directory: string): string {
  return process.platform === 'linux' ? `/proc/self/fd/${directoryFd}/${SOCKET}` : join(directory, SOCKET);
}

/** Marks `directory` as belonging to this process until `close` or its end. */
export class LivenessMark {
  readonly #server: Server | undefined;
  readonly #fd: number;

  constructor(directory: string) {
    this.#fd = openSync(directory, 'r');
    this.#server = listen(shortPath(this.#fd, directory));
    const record: WriterRecord = {
      pid: process.pid,
      pidNamespace: pidNamespace(),
      bootId: bootId(),
      socket: this.#server !== undefined,
    };
    writeFileSync(join(directory, RECORD), `${JSON.stringify(record)}\n`);
  }

  close(): void {
    this.#server?.close();
    closeSync(this.#fd);
  }
}

function listen(path: string): Server | undefined {
  const net = process.getBuiltinModule('node:net');
  const server = net.createServer((connection) => connection.destroy());
  let failed = false;
  server.on('error', () => {
    failed = true;
  });
  // The bind and listen calls happen inside listen(); only the event is deferred.
  server.listen({ path });
  server.unref();
  return failed || !server.listening ? undefined : server;
}

export type Liveness = 'alive' | 'dead' | 'unsure';

/** `now` in ms since the epoch, for the age rule. */
export async function probeLiveness(directory: string, now = Date.now()): Promise<Liveness> {
  let record: Partial<WriterRecord> = {};
  try {
    const found: unknown = JSON.parse(
      readRegular(join(directory, RECORD), 'INVALID_JOURNAL').toString('utf8'),
    );
    if (typeof found === 'object' && found !== null) record = found;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' && !exists(directory)) return 'dead';
  }
  const sure = await probe(directory, record);
  if (sure !== 'unsure') return sure;
  return olderThan(directory, now - UNSURE_MS) ? 'dead' : 'unsure';
}

async function probe(directory: string, record: Partial<WriterRecord>): Promise<Liveness> {
  const boot = bootId();
  if (boot === '' || typeof record.bootId !== 'string') return 'unsure';
  if (record.bootId !== boot) return isLocal(directory) ? 'dead' : 'unsure';
  if (record.socket === true) return connect(directory);
  if (record.pidNamespace !== pidNamespace() || typeof record.pid !== 'number') return 'unsure';
  return exists(`/proc/${record.pid}`) ? 'unsure' : 'dead';
}

async function connect(directory: string): Promise<Liveness> {
  const net = process.getBuiltinModule('node:net');
  let fd: number;
  try {
    fd = openSync(directory, 'r');
  } catch {
    return 'unsure';
  }
  try {
    return await new Promise<Liveness>((resolve) => {
      const connection = net.connect({ path: shortPath(fd, directory) });
      connection.once('connect', () => {
        connection.destroy();
        resolve('alive');
      });
      connection.once('error', (error) => {
        const errno = errnoOf(error);
        // ENOENT: the writer closed its mark, and left the directory because it could not seal it.
        const gone = errno === 'ECONNREFUSED' || errno === 'ENOENT';
        resolve(gone ? 'dead' : errno === 'EAGAIN' ? 'alive' : 'unsure');
      });
    });
  } finally {
    closeSync(fd);
  }
}

function isLocal(directory: string): boolean {
  try {
    return LOCAL_FILE_SYSTEMS.has(statfsSync(directory).type);
  } catch {
    return false;
  }
}

function exists(path: string): boolean {
  try {
    statSync(path);
    return true;
  } catch {
    return false;
  }
}

function olderThan(path: string, time: number): boolean {
  try {
    return statSync(path).mtimeMs < time;
  } catch {
    return false;
  }
}
