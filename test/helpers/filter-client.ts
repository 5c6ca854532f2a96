/**
 * Plays git's part of the filter protocol against a filter program, as a black box: its own packet code,
 * its own idea of what may come back. Like git it connects two pipes of the operating system, writes a
 * whole request before it reads anything, and reads only what it waits for.
 *
 * Every byte of the program's stdout must belong to a well-formed packet; all of them are recorded.
 */

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, mkdtempSync, openSync, read, rmSync, writev } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { ExecutionContext } from 'ava';

const MAX_PAYLOAD = 65516;
/** An operation that takes longer is a deadlock: the program is killed and the operation fails. */
const DEADLINE_MS = 120_000;

const readAsync = promisify(read);
const writevAsync = promisify(writev);

export type Bytes = string | Uint8Array;

/** One packet. */
export function packet(payload: Bytes): Buffer {
  const bytes = Buffer.from(payload);
  return Buffer.concat([Buffer.from((bytes.length + 4).toString(16).padStart(4, '0')), bytes]);
}

export const FLUSH = Buffer.from('0000');

/** A list of text lines as git sends it. */
export function listOf(...lines: Bytes[]): Buffer {
  return Buffer.concat([...lines.map((line) => packet(Buffer.concat([Buffer.from(line), NEWLINE]))), FLUSH]);
}

/** A content section, in packets of `packetSize` payload bytes. */
export function contentOf(content: Bytes, packetSize = MAX_PAYLOAD): Buffer {
  const bytes = Buffer.from(content);
  const packets: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += packetSize)
    packets.push(packet(bytes.subarray(at, at + packetSize)));
  return Buffer.concat([...packets, FLUSH]);
}

/** `pathname=…` with the raw bytes of a path. */
export function pathLine(path: Bytes): Buffer {
  return Buffer.concat([Buffer.from('pathname='), Buffer.from(path)]);
}

const NEWLINE = Buffer.from('\n');

export interface ClientOptions {
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** What to offer; git's own three by default. */
  readonly capabilities?: readonly string[];
}

export interface RequestOptions {
  /** Payload bytes per content packet, or where the next size comes from. Full packets by default. */
  readonly packetSize?: number | (() => number);
  /** Gets the content of the answer piece by piece; it is then not collected, nor recorded. */
  readonly onContent?: (piece: Buffer) => void;
}

export interface SmudgeOptions extends RequestOptions {
  readonly ref?: string;
  readonly treeish?: string;
  readonly blob?: string;
  readonly canDelay?: boolean;
}

export interface FilterAnswer {
  /** The status after both lists: what git would act upon. Undefined if there was none. */
  readonly status: string | undefined;
  /** The status of the first list. */
  readonly firstStatus: string | undefined;
  /** What was sent after `status=success`; empty otherwise. */
  readonly content: Buffer;
}

export interface FilterExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stderr: string;
}

export class FilterClient {
  readonly #child: ChildProcess;
  readonly #exit: Promise<unknown[]>;
  #stderr = '';
  #input: number | undefined;
  #output: number | undefined;
  #buffer: Buffer = Buffer.alloc(0);
  #recording = true;
  /** What the program has written to its stdout, but for content given to `onContent`. */
  readonly recorded: Buffer[] = [];
  /** Capabilities the program announced in the handshake. */
  granted: readonly string[] = [];

  private constructor(child: ChildProcess, input: number, output: number) {
    this.#child = child;
    this.#input = input;
    this.#output = output;
    this.#exit = once(child, 'close');
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr += text;
    });
  }

  /** Starts `command` without a handshake. It is killed at the end of the test if it still runs. */
  static spawn(
    t: ExecutionContext<unknown>,
    command: readonly string[],
    options: ClientOptions = {},
  ): FilterClient {
    const [theirInput, input] = openPipe();
    const [output, theirOutput] = openPipe();
    const child = spawn(command[0]!, command.slice(1), {
      stdio: [theirInput, theirOutput, 'pipe'],
      ...(options.cwd !== undefined && { cwd: options.cwd }),
      ...(options.env !== undefined && { env: options.env }),
    });
    closeSync(theirInput);
    closeSync(theirOutput);
    const client = new FilterClient(child, input, output);
    t.teardown(async () => {
      client.#child.kill('SIGKILL');
      client.closeInput();
      client.closeOutput();
      await client.#exit;
    });
    return client;
  }

  /** Starts `command` and performs the handshake. */
  static async start(
    t: ExecutionContext<unknown>,
    command: readonly string[],
    options: ClientOptions = {},
  ): Promise<FilterClient> {
    const client = FilterClient.spawn(t, command, options);
    const capabilities = options.capabilities ?? ['clean', 'smudge', 'delay'];
    await client.send(listOf('git-filter-client', 'version=2'));
    const welcome = await client.readList();
    if (welcome.join() !== 'git-filter-server,version=2') throw new Error(`welcomed by: ${welcome.join()}`);
    await client.send(listOf(...capabilities.map((name) => `capability=${name}`)));
    client.granted = (await client.readList()).map((line) => line.toString().replace(/^capability=/, ''));
    return client;
  }

  clean(path: Bytes, content: Bytes | Iterable<Bytes>, options: RequestOptions = {}): Promise<FilterAnswer> {
    return this.request(['command=clean', pathLine(path)], content, options);
  }

  smudge(path: Bytes, content: Bytes | Iterable<Bytes>, options: SmudgeOptions = {}): Promise<FilterAnswer> {
    const lines = ['command=smudge', pathLine(path)];
    if (options.ref !== undefined) lines.push(`ref=${options.ref}`);
    if (options.treeish !== undefined) lines.push(`treeish=${options.treeish}`);
    if (options.blob !== undefined) lines.push(`blob=${options.blob}`);
    if (options.canDelay) lines.push('can-delay=1');
    return this.request(lines, content, options);
  }

  async listAvailable(): Promise<{ readonly paths: Buffer[]; readonly status: string | undefined }> {
    await this.send(listOf('command=list_available_blobs'));
    const paths = (await this.readList()).map((line) => {
      if (!line.subarray(0, 9).equals(Buffer.from('pathname='))) throw new Error(`not a path: ${line}`);
      return line.subarray(9);
    });
    return { paths, status: statusOf(await this.readList()) };
  }

  /** Any request with content, and its answer. */
  async request(
    lines: readonly Bytes[],
    content: Bytes | Iterable<Bytes>,
    options: RequestOptions = {},
  ): Promise<FilterAnswer> {
    await this.send(listOf(...lines));
    const pieces = typeof content === 'string' || content instanceof Uint8Array ? [content] : content;
    for (const piece of pieces)
      await this.#sendContent(Buffer.from(piece), options.packetSize ?? MAX_PAYLOAD);
    await this.send(FLUSH);
    const firstStatus = statusOf(await this.readList());
    if (firstStatus !== 'success') return { status: firstStatus, firstStatus, content: Buffer.alloc(0) };
    const received = await this.readContent(options.onContent);
    return { status: statusOf(await this.readList()) ?? firstStatus, firstStatus, content: received };
  }

  /** Raw bytes to the program's stdin. */
  async send(...pieces: Buffer[]): Promise<void> {
    if (this.#input === undefined) throw new Error('the input was closed');
    const input = this.#input;
    let rest = pieces;
    while (rest.length > 0) {
      const { bytesWritten } = await this.#watched(() => writevAsync(input, rest));
      rest = [Buffer.concat(rest).subarray(bytesWritten)].filter((piece) => piece.length > 0);
    }
  }

  /** The lines of a list, without their newline. */
  async readList(): Promise<Buffer[]> {
    const lines: Buffer[] = [];
    for (;;) {
      const payload = await this.#readPacket();
      if (payload === 'flush') return lines;
      lines.push(Buffer.from(payload.at(-1) === 0x0a ? payload.subarray(0, -1) : payload));
    }
  }

  async readContent(onContent?: (piece: Buffer) => void): Promise<Buffer> {
    const pieces: Buffer[] = [];
    this.#recording = onContent === undefined;
    for (;;) {
      const payload = await this.#readPacket();
      if (payload === 'flush') break;
      if (onContent) onContent(payload);
      else pieces.push(Buffer.from(payload));
    }
    this.#recording = true;
    return Buffer.concat(pieces);
  }

  /** Process id of the program, for a look at its memory. */
  get pid(): number {
    return this.#child.pid!;
  }

  closeInput(): void {
    if (this.#input !== undefined) closeSync(this.#input);
    this.#input = undefined;
  }

  closeOutput(): void {
    if (this.#output !== undefined) closeSync(this.#output);
    this.#output = undefined;
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /**
   * Closes the program's stdin as git does in the end, and waits until the program has ended. Throws if
   * there was anything on its stdout that no request had asked for.
   */
  async end(): Promise<FilterExit> {
    this.closeInput();
    if (this.#output !== undefined) {
      while (await this.#receive());
      if (this.#buffer.length > 0) throw new Error(`unasked output: ${excerpt(this.#buffer)}`);
    }
    const [code, signal] = (await this.#watched(() => this.#exit)) as [number | null, NodeJS.Signals | null];
    return { code, signal, stderr: this.#stderr };
  }

  async #sendContent(content: Buffer, packetSize: number | (() => number)): Promise<void> {
    let batch: Buffer[] = [];
    let size = 0;
    for (let at = 0; at < content.length; ) {
      const wanted = typeof packetSize === 'number' ? packetSize : packetSize();
      const payload = content.subarray(at, at + wanted);
      batch.push(Buffer.from((payload.length + 4).toString(16).padStart(4, '0')), payload);
      at += payload.length;
      size += payload.length;
      if (size < MAX_PAYLOAD && batch.length < 1000 && at < content.length) continue;
      await this.send(...batch);
      batch = [];
      size = 0;
    }
  }

  async #readPacket(): Promise<Buffer | 'flush'> {
    await this.#need(4);
    const digits = this.#buffer.toString('latin1', 0, 4);
    if (!/^[0-9a-f]{4}$/.test(digits)) throw new Error(`not a packet: ${excerpt(this.#buffer)}`);
    const length = Number.parseInt(digits, 16);
    if (length === 0) {
      this.#buffer = this.#buffer.subarray(4);
      return 'flush';
    }
    // Git takes 0001, 0002 and 0004 for an end and dies of 0003; a filter has no business with them.
    if (length < 5 || length > MAX_PAYLOAD + 4) throw new Error(`packet length ${digits}`);
    await this.#need(length);
    const payload = this.#buffer.subarray(4, length);
    this.#buffer = this.#buffer.subarray(length);
    return payload;
  }

  async #need(count: number): Promise<void> {
    while (this.#buffer.length < count) {
      if (await this.#receive()) continue;
      throw new Error(
        `stdout ended, ${this.#buffer.length} of ${count} bytes there; stderr: ${this.#stderr}`,
      );
    }
  }

  async #receive(): Promise<boolean> {
    if (this.#output === undefined) throw new Error('the output was closed');
    const output = this.#output;
    const piece = Buffer.allocUnsafe(1 << 17);
    const { bytesRead } = await this.#watched(() => readAsync(output, piece, 0, piece.length, null));
    const received = piece.subarray(0, bytesRead);
    if (this.#recording) this.recorded.push(received);
    this.#buffer = this.#buffer.length === 0 ? received : Buffer.concat([this.#buffer, received]);
    return bytesRead > 0;
  }

  async #watched<T>(operation: () => Promise<T>): Promise<T> {
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), DEADLINE_MS);
    try {
      return await operation();
    } finally {
      clearTimeout(timer);
    }
  }
}

/** The two ends, [reading, writing], of a pipe in blocking mode. Node's own are sockets. */
export function openPipe(): [number, number] {
  const directory = mkdtempSync(join(tmpdir(), 'git2db-pipe-'));
  try {
    const path = join(directory, 'pipe');
    execFileSync('mkfifo', [path]);
    // Opening one end waits for somebody at the other; a descriptor for both never waits.
    const both = openSync(path, constants.O_RDWR);
    const ends: [number, number] = [openSync(path, constants.O_RDONLY), openSync(path, constants.O_WRONLY)];
    closeSync(both);
    return ends;
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function statusOf(lines: readonly Buffer[]): string | undefined {
  const texts = lines.map((line) => line.toString());
  return texts.findLast((line) => line.startsWith('status='))?.slice('status='.length);
}

function excerpt(bytes: Buffer): string {
  return JSON.stringify(bytes.subarray(0, 80).toString('latin1'));
}
