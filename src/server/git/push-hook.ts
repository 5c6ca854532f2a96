/**
 * The hook that git runs before it takes over what was pushed. It is a few lines that ask the server, through a
 * socket in the server's own directory, whether it can serve the content of every pointer in the push; the
 * objects are still in git's quarantine then. A hook of the same name in the repository runs after it.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { messageOf } from '../../xet/errors.ts';
import type { ServableStore } from '../../xet/store/store.ts';
import { settingsEnvironment } from './environment.ts';
import { checkPush } from './push-check.ts';

/** Of git's list of updated refs. */
const MAX_QUESTION = 64 * 1024 * 1024;

const QUARANTINE = [
  'GIT_OBJECT_DIRECTORY',
  'GIT_ALTERNATE_OBJECT_DIRECTORIES',
  'GIT_QUARANTINE_PATH',
] as const;

const PRE_RECEIVE = `#!/bin/sh
updates=$(cat; echo .)
updates=\${updates%.}
printf '%s' "$updates" | "$GIT2DB_NODE" "$GIT2DB_HOOKS/ask.cjs" || exit 1
own=\${GIT_DIR:-.}/hooks/pre-receive
if [ -x "$own" ]; then printf '%s' "$updates" | "$own"; fi
`;

const PASS_ON = `#!/bin/sh
own=\${GIT_DIR:-.}/hooks/\${0##*/}
if [ -x "$own" ]; then exec "$own" "$@"; fi
`;

/** Runs apart from the server, in whatever Node the server runs in. */
const ASK = `'use strict';
const net = require('node:net');
const { readFileSync } = require('node:fs');
const { env } = process;
const variables = {};
for (const name of ${JSON.stringify(QUARANTINE)}) if (env[name]) variables[name] = env[name];
const question = { directory: process.cwd(), env: variables, updates: readFileSync(0, 'utf8') };
const socket = net.connect(env.GIT2DB_SOCKET, () => socket.end(JSON.stringify(question)));
let answer = '';
socket.setEncoding('utf8');
socket.on('data', (text) => { answer += text; });
socket.on('error', (error) => { process.stderr.write('git2db serve: ' + error.message + '\\n'); process.exit(1); });
socket.on('close', () => {
  if (answer === 'ok') process.exit(0);
  process.stderr.write(answer || 'git2db serve: the server gave no answer\\n');
  process.exit(1);
});
`;

const PASSED_ON = ['update', 'post-receive', 'post-update', 'reference-transaction'];

export class PushHook {
  readonly #server: Server;
  readonly #hooks: string;
  readonly #socket: string;

  private constructor(server: Server, hooks: string, socket: string) {
    this.#server = server;
    this.#hooks = hooks;
    this.#socket = socket;
  }

  /** `directory`: the server's own, which nobody else can enter. */
  static async start(directory: string, store: ServableStore): Promise<PushHook> {
    const hooks = join(directory, 'hooks');
    mkdirSync(hooks, { mode: 0o700 });
    writeFileSync(join(hooks, 'pre-receive'), PRE_RECEIVE, { mode: 0o700 });
    writeFileSync(join(hooks, 'ask.cjs'), ASK, { mode: 0o600 });
    for (const name of PASSED_ON) writeFileSync(join(hooks, name), PASS_ON, { mode: 0o700 });
    const path = join(directory, 'hook.sock');
    const server = createServer({ allowHalfOpen: true }, (socket) => void answer(socket, store));
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(path, resolve);
    });
    return new PushHook(server, hooks, path);
  }

  /** For the git that receives a push: settings, and what the hook needs. */
  environment(settings: Readonly<Record<string, string>>): Record<string, string> {
    return {
      ...settingsEnvironment({ ...settings, 'core.hooksPath': this.#hooks }),
      GIT2DB_HOOKS: this.#hooks,
      GIT2DB_SOCKET: this.#socket,
      GIT2DB_NODE: process.execPath,
    };
  }

  stop(): Promise<void> {
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }
}

async function answer(socket: Socket, store: ServableStore): Promise<void> {
  const gone = new AbortController();
  socket.on('error', () => gone.abort());
  try {
    const pieces: Buffer[] = [];
    let length = 0;
    // The answer goes back through the same socket: it must outlast the question.
    for await (const piece of socket.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      length += piece.length;
      if (length > MAX_QUESTION) throw new Error('the push updates too many refs at once');
      pieces.push(piece);
    }
    const { directory, env, updates } = JSON.parse(Buffer.concat(pieces).toString('utf8')) as {
      readonly directory: string;
      readonly env: Record<string, string>;
      readonly updates: string;
    };
    const refusal = await checkPush(store, { directory, quarantine: env, updates, signal: gone.signal });
    socket.end(refusal ?? 'ok');
  } catch (error) {
    socket.end(`git2db serve: the push could not be checked: ${messageOf(error)}\n`);
  }
}
