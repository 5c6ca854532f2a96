import { createWriteStream, openSync, type WriteStream } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { EXIT_OK } from '../../exit-codes.ts';
import type { RunningServer } from '../../server/server.ts';
import { Git2dbError, messageOf } from '../../xet/errors.ts';
import { type Command, type CommandContext, defineCommand, NO_OPERANDS } from '../command.ts';

const DEFAULT_LISTEN = '127.0.0.1:7878';
const DEFAULT_EXPIRY = '30d';

const KEY_FILE = {
  type: 'string',
  describe:
    'Secret that tokens are signed with (default ~/.local/state/git2db/server.key, made at first use)',
  complete: 'file',
} as const;

const serve = defineCommand({
  path: ['serve'],
  summary: 'Serve a store, and git repositories, over HTTP',
  description: `Serves a Xet store by HTTP, to git2db and to the programs of Hugging Face, and with
--repositories the bare git repositories below a directory, with Git LFS and the endpoints
of the Hub. "git clone http://HOST:PORT/NAME.git" then gives whole repositories with their
large files from this one process.

The store is a directory or a bucket (s3://BUCKET/PREFIX?endpoint=URL&region=R&pathStyle=true,
with credentials as the AWS tools find them). The server keeps nothing else: several servers
with one key file can share a bucket.

Everybody may read, and whoever has a token for it may write, unless --anonymous says
otherwise; "git2db serve token" makes tokens. A token is given as a bearer token, or as the
password of any user. Without TLS a token can be read on the way: use --tls-cert, or a
proxy that has it, on anything but this machine. One store is one trust domain: whoever may
read can learn whether a chunk is in it.

A push with pointers to large files whose content is not here is refused. In a bare
repository "git config git2db.checkPointers false" switches that off.

SIGTERM and Ctrl-C end the server after the requests under way; SIGHUP reads the TLS files
again and opens the access log anew. docs/server.md is the operator's manual.

JSON: {"url","store","repositories","anonymous"}, as soon as it listens.`,
  operands: NO_OPERANDS,
  options: {
    store: {
      type: 'string',
      describe: 'Directory or s3:// address of the store (default: that of the current repository)',
      complete: 'directory',
    },
    repositories: {
      type: 'string',
      describe: 'Directory of the bare repositories to serve',
      complete: 'directory',
    },
    create: { type: 'boolean', describe: 'A push to a repository that does not exist makes it' },
    listen: { type: 'string', describe: `HOST:PORT to listen on (default ${DEFAULT_LISTEN}; port 0: any)` },
    'public-url': {
      type: 'string',
      describe: 'Where clients reach the server (default: as they say themselves)',
    },
    anonymous: {
      type: 'string',
      choices: ['none', 'read', 'write'],
      describe: 'What may be done without a token (default read)',
    },
    'key-file': KEY_FILE,
    'tls-cert': { type: 'string', describe: 'Certificate chain, PEM', complete: 'file' },
    'tls-key': { type: 'string', describe: 'Private key of the certificate, PEM', complete: 'file' },
    'max-upload': {
      type: 'number',
      describe: 'Largest body of one request, bytes (default 68157440), but for pushes and objects',
    },
    'max-object': { type: 'number', describe: 'Largest push or LFS object, bytes (default 1 TiB)' },
    rate: { type: 'string', describe: 'Requests of one client: N/s or N/m (default: any number)' },
    'max-connections': { type: 'number', describe: 'Connections at once (default 1000)' },
    'idle-timeout': {
      type: 'number',
      describe: 'Seconds after which a silent request is given up (default 60)',
    },
    grace: { type: 'number', describe: 'Seconds that requests may take when the server ends (default 30)' },
    spool: {
      type: 'string',
      describe: 'Directory for uploads that are being checked (default: that for temporary files)',
      complete: 'directory',
    },
    'trust-proxy': { type: 'boolean', describe: 'The last X-Forwarded-For entry is the client' },
    'access-log': {
      type: 'string',
      describe: 'File for a line per request; - is standard output',
      complete: 'file',
    },
    'log-format': { type: 'string', choices: ['json', 'text'], describe: 'Of the access log (default json)' },
  },
  examples: [
    ['git2db serve --store /srv/xet --repositories /srv/git --create', 'on this machine alone'],
    [
      'git2db serve --store s3://bucket/xet --listen 0.0.0.0:443 --tls-cert c.pem --tls-key k.pem',
      'for others',
    ],
  ],
  exitCodes: [[7, 'An option, the key file or a TLS file is no good, or the address is taken']],
  async run({ options }, context) {
    const { output, json, cwd, env } = context;
    const library = await import('../server-library.ts');
    const place = options.store ?? library.loadFilterConfig(cwd, env).storeDir;
    const { host, port } = parseListen(options.listen ?? DEFAULT_LISTEN);
    const tls = tlsFiles(options['tls-cert'], options['tls-key'], cwd);
    const log = AccessLog.open(options['access-log'], cwd, context);
    let server: RunningServer | undefined;
    const signal = context.interruptible({
      onHangup: () => {
        log?.reopen();
        try {
          if (tls !== undefined) server?.reloadTls(tls);
        } catch (error) {
          output.warn(`the TLS files were not taken over: ${messageOf(error)}`);
        }
      },
    });
    const key = library.loadKeyFile(keyFile(options['key-file'], context), {
      create: options['key-file'] === undefined,
    });
    const { store, directory } = await library.openServedStore(
      place.startsWith('s3:') ? place : resolve(cwd, place),
      { warn: (line) => output.warn(line), signal, env: context.env },
    );
    const repositories = options.repositories === undefined ? undefined : resolve(cwd, options.repositories);
    const anonymous = options.anonymous ?? 'read';
    try {
      server = await library.startServer({
        store,
        key,
        host,
        port,
        repositories,
        anonymous,
        tls,
        storeDirectory: directory,
        publicUrl: options['public-url'],
        createRepositories: options.create,
        spoolDirectory: options.spool === undefined ? undefined : resolve(cwd, options.spool),
        trustProxy: options['trust-proxy'],
        accessLog: log && ((line) => log.write(line)),
        logFormat: options['log-format'],
        onError: (error, id) => output.error(`request ${id}: ${messageOf(error)}`),
        limits: {
          ...(options['max-upload'] !== undefined && {
            maxUpload: positive('max-upload', options['max-upload']),
          }),
          ...(options['max-object'] !== undefined && {
            maxObject: positive('max-object', options['max-object']),
          }),
          ...(options['max-connections'] !== undefined && {
            maxConnections: positive('max-connections', options['max-connections']),
          }),
          ...(options['idle-timeout'] !== undefined && {
            idleTimeoutMs: 1000 * positive('idle-timeout', options['idle-timeout']),
          }),
          ...(options.grace !== undefined && { graceMs: 1000 * notNegative('grace', options.grace) }),
          ...(options.rate !== undefined && { rate: parseRate(options.rate) }),
        },
      });
      if (json)
        output.json({ url: server.url, store: store.place, repositories: repositories ?? null, anonymous });
      else output.note(`Serving ${store.place} at ${server.url} (Ctrl-C ends it)`);
      await new Promise<void>((done) => {
        if (signal.aborted) done();
        else signal.addEventListener('abort', () => done(), { once: true });
      });
      await server.stop();
      return EXIT_OK;
    } finally {
      await store[Symbol.asyncDispose]();
      log?.close();
    }
  },
});

const serveToken = defineCommand({
  path: ['serve', 'token'],
  summary: 'Make a token for a server',
  description: `Prints a token that servers with the same key file accept until it expires. Nothing about
it is stored: it can be revoked only by a new key file, which ends all tokens.

It is given to git as the password (with any user name), to git2db in XETHUB_TOKEN or by the
credential helper of git, and to programs of Hugging Face as "hf_" and the token.

JSON: {"token","scope","repositories","expires"}.`,
  operands: NO_OPERANDS,
  options: {
    scope: { type: 'string', choices: ['read', 'write'], describe: 'What it allows (default read)' },
    repository: {
      type: 'string',
      describe: 'Repositories it is for: a name, * for any part, ** for any name (default: all)',
    },
    expires: {
      type: 'string',
      describe: `How long it is good for: 12h, 30d, 1y (default ${DEFAULT_EXPIRY})`,
    },
    'key-file': KEY_FILE,
  },
  examples: [
    ["git2db serve token --scope write --repository 'team/*' --expires 90d", 'for the members of a team'],
  ],
  exitCodes: [[7, 'The key file, or the pattern, is no good']],
  async run({ options }, context) {
    const library = await import('../server-library.ts');
    const expiresAt =
      Math.floor(Date.now() / 1000) + library.parseDuration(options.expires ?? DEFAULT_EXPIRY);
    const repositories =
      options.repository === undefined ? undefined : library.checkPattern(options.repository);
    const secret = library.loadKeyFile(keyFile(options['key-file'], context), {
      create: options['key-file'] === undefined,
    });
    const scope = options.scope ?? 'read';
    const token = library.makeToken(library.deriveKeys(secret).tokens, { scope, repositories, expiresAt });
    const { output, json } = context;
    const expires = new Date(expiresAt * 1000).toISOString();
    if (json) output.json({ token, scope, repositories: repositories ?? null, expires });
    else output.data(token);
    return EXIT_OK;
  },
});

const serveInit = defineCommand({
  path: ['serve', 'init'],
  summary: 'Make a bare repository for a server',
  description: `Makes the bare repository NAME.git below the directory that a server is given with
--repositories. A name has one to three parts: project, user/model, datasets/user/data.

JSON: {"name","path"}.`,
  operands: { usage: 'NAME', min: 1, max: 1 },
  options: {
    repositories: {
      type: 'string',
      describe: 'Directory of the bare repositories (default: the current one)',
      complete: 'directory',
    },
  },
  examples: [
    ['git2db serve init user/model --repositories /srv/git', 'then push to http://HOST/user/model.git'],
  ],
  exitCodes: [
    [50, 'A name that no repository can have'],
    [51, 'There is one of this name'],
  ],
  async run({ options, operands }, { output, json, cwd }) {
    const library = await import('../server-library.ts');
    const [name = ''] = operands;
    const path = await library.createRepository(resolve(cwd, options.repositories ?? '.'), name);
    if (json) output.json({ name, path });
    else output.note(`Made ${path}`);
    return EXIT_OK;
  },
});

export const serveCommands: readonly Command[] = [serve, serveToken, serveInit];

/** A file that is opened anew when it was moved away; or standard output. */
class AccessLog {
  readonly #path: string | undefined;
  readonly #context: CommandContext;
  #file: WriteStream | undefined;

  private constructor(path: string | undefined, context: CommandContext) {
    this.#path = path;
    this.#context = context;
    this.reopen();
  }

  static open(place: string | undefined, cwd: string, context: CommandContext): AccessLog | undefined {
    if (place === undefined) return undefined;
    return new AccessLog(place === '-' ? undefined : resolve(cwd, place), context);
  }

  write(line: string): void {
    if (this.#file === undefined) this.#context.output.data(line);
    else this.#file.write(`${line}\n`);
  }

  /** Throws INVALID_CONFIG the first time; later the file that is open goes on. */
  reopen(): void {
    if (this.#path === undefined) return;
    let fd: number;
    try {
      fd = openSync(this.#path, 'a', 0o640);
    } catch (error) {
      const message = `cannot write the access log: ${messageOf(error)}`;
      if (this.#file === undefined) throw new Git2dbError('INVALID_CONFIG', message, { cause: error });
      this.#context.output.warn(`${message}; it goes on in the old file`);
      return;
    }
    this.#file?.end();
    this.#file = createWriteStream(this.#path, { fd });
    this.#file.on('error', (error) => this.#context.output.warn(`the access log: ${messageOf(error)}`));
  }

  close(): void {
    this.#file?.end();
  }
}

function keyFile(given: string | undefined, { cwd, env }: CommandContext): string {
  if (given !== undefined) return resolve(cwd, given);
  const state = env.XDG_STATE_HOME || join(env.HOME || homedir(), '.local', 'state');
  return join(state, 'git2db', 'server.key');
}

function parseListen(text: string): { readonly host: string; readonly port: number } {
  const [, bracketed, plain, digits] = /^(?:\[([0-9A-Fa-f:.]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  const port = Number(digits);
  if (host !== undefined && port <= 65535) return { host, port };
  throw new Git2dbError(
    'USAGE',
    `--listen: expected HOST:PORT, as 0.0.0.0:8080 or [::1]:8080, found '${text}'`,
  );
}

function parseRate(text: string): number {
  const [, digits, unit] = /^([1-9]\d{0,6})\/([sm])$/.exec(text) ?? [];
  if (digits === undefined) throw new Git2dbError('USAGE', `--rate: expected N/s or N/m, found '${text}'`);
  return unit === 's' ? Number(digits) : Number(digits) / 60;
}

function positive(name: string, value: number): number {
  if (Number.isSafeInteger(value) && value > 0) return value;
  throw new Git2dbError('USAGE', `--${name}: expected a whole number above 0, found ${value}`);
}

function notNegative(name: string, value: number): number {
  return value === 0 ? 0 : positive(name, value);
}

function tlsFiles(cert: string | undefined, key: string | undefined, cwd: string) {
  if (cert === undefined && key === undefined) return undefined;
  if (cert !== undefined && key !== undefined) return { cert: resolve(cwd, cert), key: resolve(cwd, key) };
  throw new Git2dbError('USAGE', '--tls-cert and --tls-key go together');
}
