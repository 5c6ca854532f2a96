/** The servers that take part: ours, nginx, and the small part of git-lfs's API that points to nginx. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, createServer as createSocket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export async function freePort(): Promise<number> {
  const server = createSocket();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** A program that serves on a port of this machine, until it is disposed of. */
export class RunningServer implements AsyncDisposable {
  readonly port: number;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, port: number) {
    this.#child = child;
    this.port = port;
  }

  static async start(
    command: (port: number) => readonly string[],
    options: { readonly env: NodeJS.ProcessEnv; readonly path: string },
  ): Promise<RunningServer> {
    const port = await freePort();
    const [program, ...args] = command(port) as [string, ...string[]];
    const child = spawn(program, args, { env: options.env, stdio: ['ignore', 'pipe', 'pipe'] });
    const said: Buffer[] = [];
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (bytes: Buffer) => void (said.length < 100 && said.push(bytes)));
    const server = new RunningServer(child, port);
    for (let tries = 0; !(await answers(`http://127.0.0.1:${port}${options.path}`)); tries++) {
      if (child.exitCode !== null || tries > 300) {
        await server[Symbol.asyncDispose]();
        throw new Error(`${program} did not start: ${Buffer.concat(said).toString().trim()}`);
      }
      await sleep(50);
    }
    return server;
  }

  /** The kernel's high-water mark of the process, in bytes. */
  peakMemory(): number {
    const status = readFileSync(`/proc/${this.#child.pid}/status`, 'utf8');
    return 1024 * Number(/^VmHWM:\s+(\d+)/m.exec(status)?.[1]);
  }

  /** Makes the present size the high-water mark. */
  resetPeak(): void {
    writeFileSync(`/proc/${this.#child.pid}/clear_refs`, '5');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGTERM');
    await ended;
  }
}

async function answers(url: string): Promise<boolean> {
  try {
    const answer = await fetch(url);
    await answer.arrayBuffer();
    return true;
  } catch {
    return false;
  }
}

export function missingNginx(): string | undefined {
  return spawnSync('nginx', ['-v']).error === undefined ? undefined : 'nginx is not installed';
}

/** Serves `root` below `/`, and takes PUT requests. */
export function startNginx(dir: string, root: string): Promise<RunningServer> {
  mkdirSync(join(dir, 'body'), { recursive: true });
  mkdirSync(root, { recursive: true });
  const config = (port: number) => `
    daemon off; master_process off; worker_processes 1; pid ${dir}/pid; error_log ${dir}/error.log;
    events { worker_connections 512; }
    http {
      access_log off; sendfile on; client_max_body_size 0; client_body_temp_path ${dir}/body;
      proxy_temp_path ${dir}/proxy; fastcgi_temp_path ${dir}/fastcgi; uwsgi_temp_path ${dir}/uwsgi; scgi_temp_path ${dir}/scgi;
      server { listen 127.0.0.1:${port}; root ${root}; location / { dav_methods PUT; create_full_put_path on; } }
    }`;
  return RunningServer.start(
    (port) => {
      const file = join(dir, 'nginx.conf');
      writeFileSync(file, config(port));
      return ['nginx', '-c', file, '-p', dir, '-e', join(dir, 'error.log')];
    },
    { env: process.env, path: '/' },
  );
}

/** A git-lfs server that has its clients send to and fetch from nginx; it does nothing else. */
export class LfsServer implements AsyncDisposable {
  readonly url: string;
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  static async start(objects: string, has: (oid: string) => boolean): Promise<LfsServer> {
    const server = createServer(async (request, response) => {
      const pieces: Buffer[] = [];
      for await (const piece of request) pieces.push(piece as Buffer);
      response.setHeader('Content-Type', 'application/vnd.git-lfs+json');
      if (!request.url?.endsWith('/objects/batch')) {
        response.statusCode = 404;
        response.end('{"message":"not here"}');
        return;
      }
      const { operation, objects: wanted } = JSON.parse(Buffer.concat(pieces).toString()) as {
        operation: 'upload' | 'download';
        objects: { oid: string; size: number }[];
      };
      const answers = wanted.map(({ oid, size }) => ({
        oid,
        size,
        authenticated: true,
        ...(operation === 'upload' && has(oid)
          ? {}
          : { actions: { [operation]: { href: `${objects}/${oid}` } } }),
      }));
      response.end(JSON.stringify({ transfer: 'basic', objects: answers }));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new LfsServer(server);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }
}
