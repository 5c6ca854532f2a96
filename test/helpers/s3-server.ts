/**
 * A real S3 service for tests: Ceph's gateway over one monitor and one OSD that keeps its objects in memory, all of
 * them on 127.0.0.1 and gone with the test process. One for each test process, started when it is first asked for.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import {
  accessSync,
  constants,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

export interface S3Server {
  /** `http://127.0.0.1:port` */
  readonly endpoint: string;
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string };
  /** What a program needs in its environment to be let in. */
  readonly env: Readonly<Record<string, string>>;
  /** Makes a bucket of a name that nobody has used. */
  createBucket(): Promise<string>;
  /** `s3://bucket/prefix?endpoint=...` */
  url(bucket: string, prefix?: string): string;
}

const PROGRAMS = ['radosgw', 'radosgw-admin', 'ceph-mon', 'ceph-osd', 'monmaptool', 'ceph'];
const START_MS = 60_000;
const KEYS = { accessKeyId: 'test', secretAccessKey: 'testtest' };

const run = promisify(execFile);

/** Why there can be no such server here; undefined if there can. */
export function s3Missing(): string | undefined {
  const missing = PROGRAMS.filter((name) => !isOnPath(name));
  return missing.length === 0 ? undefined : `${missing.join(', ')} not installed`;
}

let server: Promise<S3Server> | undefined;

/** The server of this process. It is stopped when the process ends. */
export function startS3(): Promise<S3Server> {
  server ??= start();
  return server;
}

async function start(): Promise<S3Server> {
  const directory = mkdtempSync(join(tmpdir(), 'git2db-s3-'));
  const children: ChildProcess[] = [];
  // The state is in memory, so that a kill loses nothing of value.
  process.once('exit', () => {
    for (const child of children) child.kill('SIGKILL');
    rmSync(directory, { recursive: true, force: true });
  });
  const [port, monitorPort] = await Promise.all([freePort(), freePort()]);
  const configuration = join(directory, 'ceph.conf');
  const id = randomUUID();
  for (const name of ['mon', 'osd', 'rgw']) mkdirSync(join(directory, name));
  writeFileSync(configuration, configurationOf(directory, id, port, monitorPort));
  const env = { ...process.env, CEPH_CONF: configuration };
  const call = (program: string, ...parameters: string[]) =>
    run(program, parameters, { env, timeout: START_MS });
  const launch = (program: string, ...parameters: string[]) => {
    const out = openSync(join(directory, `${program}.out`), 'w');
    const child = spawn(program, parameters, { env, stdio: ['ignore', out, out] });
    child.unref();
    children.push(child);
  };
  try {
    const map = join(directory, 'monmap');
    await call('monmaptool', '--create', '--fsid', id, '--addv', 'a', `[v2:127.0.0.1:${monitorPort}]`, map);
    await call('ceph-mon', '-i', 'a', '--mkfs', '--monmap', map);
    launch('ceph-mon', '-i', 'a', '-f');
    await call('ceph', 'osd', 'new', id, '0');
    await call('ceph-osd', '-i', '0', '--mkfs', '--osd-uuid', id);
    launch('ceph-osd', '-i', '0', '-f');
    launch('radosgw', '-n', 'client.rgw', '-f');
    const endpoint = `http://127.0.0.1:${port}`;
    await answers(endpoint);
    const { accessKeyId, secretAccessKey } = KEYS;
    await call(
      'radosgw-admin',
      ...['user', 'create', '--uid', 'test', '--display-name', 'test'],
      ...['--access-key', accessKeyId, '--secret-key', secretAccessKey],
    );
    return serverAt(endpoint);
  } catch (error) {
    const logs = PROGRAMS.map((name) => tailOf(join(directory, `${name}.out`))).filter((text) => text !== '');
    throw new Error(`the S3 server did not start: ${(error as Error).message}\n${logs.join('\n')}`);
  }
}

function serverAt(endpoint: string): S3Server {
  return {
    endpoint,
    credentials: KEYS,
    env: {
      AWS_ACCESS_KEY_ID: KEYS.accessKeyId,
      AWS_SECRET_ACCESS_KEY: KEYS.secretAccessKey,
      AWS_EC2_METADATA_DISABLED: 'true',
    },
    async createBucket() {
      const { CreateBucketCommand, S3Client } = await import('@aws-sdk/client-s3');
      process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED = 'true';
      const client = new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true, credentials: KEYS });
      const bucket = `test-${randomUUID()}`;
      await client.send(new CreateBucketCommand({ Bucket: bucket }));
      client.destroy();
      return bucket;
    },
    url: (bucket, prefix = '') => `s3://${bucket}/${prefix}?endpoint=${encodeURIComponent(endpoint)}`,
  };
}

/** What each unusual line is for stands beside it. */
function configurationOf(directory: string, id: string, port: number, monitorPort: number): string {
  return `[global]
fsid = ${id}
mon host = v2:127.0.0.1:${monitorPort}
auth cluster required = none
auth service required = none
auth client required = none
# the gateway alone insists on encryption, which cannot be had without keys
ms mon client mode = crc
run dir = ${directory}
log file = ${directory}/$name.log
# every change of a map waits for this long
paxos propose interval = 0.05
# one copy, on one OSD
mon allow pool size one = true
osd pool default size = 1
osd pool default pg num = 1
osd crush chooseleaf type = 0
[mon]
mon data = ${directory}/mon
[osd]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
osd data = ${directory}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
[client.rgw]
rgw data = ${directory}/rgw
# small answers take 45 ms without nodelay
rgw frontends = beast endpoint=127.0.0.1:${port} tcp_nodelay=1
# what is deleted is freed soon
rgw gc obj min wait = 5
rgw gc processor period = 5
`;
}

async function answers(endpoint: string): Promise<void> {
  for (const deadline = Date.now() + START_MS; ; await sleep(50)) {
    try {
      await (await fetch(endpoint)).arrayBuffer();
      return;
    } catch (error) {
      if (Date.now() > deadline) throw error;
    }
  }
}

async function freePort(): Promise<number> {
  const listener = createServer();
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
  const address = listener.address();
  await new Promise((resolve) => listener.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

function isOnPath(program: string): boolean {
  return (process.env.PATH ?? '').split(delimiter).some((directory) => {
    try {
      accessSync(join(directory, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

function tailOf(path: string): string {
  try {
    return readFileSync(path, 'utf8').slice(-2000);
  } catch {
    return '';
  }
}
