/**
 * The two ends of the way by which git gets a secret.
 *
 * Git runs a credential helper as `<command> get`, writes what it looks for to its stdin, and reads the
 * answer from its stdout (gitcredentials(7), git-credential(1) "INPUT/OUTPUT FORMAT"):
 *
 *     get LF protocol=https LF host=example.org[:port] LF [path=...] LF ...      to the socket
 *     username=... LF password=... LF                                            from the socket
 *
 * The helper is a few lines of JavaScript that join those to a socket; they are given to node on its command
 * line, so there is no file to be found or exchanged. The socket lies in a directory of mode 0700, and who
 * answers decides by protocol and host. Asking again costs one start of node.
 */
import { rmSync } from 'node:fs';
import { chmod, mkdtemp } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { shellWord } from '../large-files/shell-word.ts';
import { Git2dbError } from '../xet/errors.ts';

const HELPER =
  "const s=require('net').connect(process.argv[1]);" +
  "s.on('error',()=>process.exit(1));" +
  "s.write(process.argv[2]+'\\n');process.stdin.pipe(s);s.pipe(process.stdout)";

/** A request of git is a few lines; more is not from git. */
const MAX_REQUEST = 64 * 1024;
/** sun_path holds 108 bytes, the last one a NUL. */
const MAX_SOCKET_PATH = 107;

export interface CredentialRequest {
  /** `get`, `store` (it was accepted) or `erase` (it was refused). */
  readonly operation: string;
  readonly fields: ReadonlyMap<string, string>;
}

/** Fields of the answer; nothing for "I have none". */
export type Answer = (request: CredentialRequest) => Readonly<Record<string, string>>;

export interface CredentialSocket extends AsyncDisposable {
  /** For `credential.helper`: a command for sh, without any secret. */
  readonly helper: string;
}

const directories = new Set<string>();

/** Listens until disposed. Does not keep the process alive, and leaves nothing when it ends. */
export async function openCredentialSocket(answer: Answer): Promise<CredentialSocket> {
  const directory = await privateDirectory();
  const path = join(directory, 's');
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    serve(socket, answer);
  });
  try {
    await listen(server, path);
  } catch (cause) {
    remove(directory);
    throw new Git2dbError('AUTH_FAILED', `cannot listen on ${path}, by which git would get the credentials`, {
      cause,
    });
  }
  server.unref();
  const words = [process.execPath, '--input-type=commonjs', '-e', HELPER, path].map(shellWord);
  return {
    // What NODE_OPTIONS asks for (a debugger, a loader) is not for this process.
    helper: `!NODE_OPTIONS= ${words.join(' ')}`,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
      remove(directory);
    },
  };
}

function serve(socket: Socket, answer: Answer): void {
  const pieces: Buffer[] = [];
  let length = 0;
  socket.unref();
  socket.on('error', () => socket.destroy());
  socket.on('data', (piece: Buffer) => {
    length += piece.length;
    if (length > MAX_REQUEST) socket.destroy();
    else pieces.push(piece);
  });
  socket.once('end', () => {
    const [operation = '', ...lines] = Buffer.concat(pieces).toString('utf8').split('\n');
    const fields = new Map<string, string>();
    for (const line of lines) {
      const equals = line.indexOf('=');
      if (equals > 0) fields.set(line.slice(0, equals), line.slice(equals + 1));
    }
    const answered = Object.entries(answer({ operation, fields }));
    socket.end(answered.map(([name, value]) => `${name}=${value}\n`).join(''));
  });
}

/** Of mode 0700, with a path short enough for a socket in it. */
async function privateDirectory(): Promise<string> {
  for (const parent of [tmpdir(), process.env.XDG_RUNTIME_DIR, '/tmp']) {
    if (parent === undefined || Buffer.byteLength(join(parent, 'git2db-XXXXXX', 's')) > MAX_SOCKET_PATH)
      continue;
    let directory: string;
    try {
      directory = await mkdtemp(join(parent, 'git2db-'));
    } catch {
      continue;
    }
    if (directories.size === 0) process.on('exit', removeAll);
    directories.add(directory);
    await chmod(directory, 0o700);
    return directory;
  }
  throw new Git2dbError(
    'AUTH_FAILED',
    `expected a directory for a socket, found none that can be written and whose path is short enough: set TMPDIR to one (${tmpdir()} does not do)`,
  );
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, () => {
      server.off('error', reject);
      server.on('error', () => {});
      resolve();
    });
  });
}

function remove(directory: string): void {
  rmSync(directory, { recursive: true, force: true });
  directories.delete(directory);
  if (directories.size === 0) process.off('exit', removeAll);
}

function removeAll(): void {
  for (const directory of directories) rmSync(directory, { recursive: true, force: true });
}
