/**
 * `registry.clone(url)`: a promise that can still be told more before it starts.
 *
 *     await registry.clone(url, { name: 'model', depth: 1 });
 *     await registry.clone(url).name('model').branch('main').shallow().exec();
 *
 * The name is reserved before the network is used, so that of several clones under one name one is made
 * and the others get it. The repository is made in a directory of its own and appears, complete, by one
 * rename together with its entry in the metadata.
 */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { checkArguments } from '../arguments.ts';
import { makeDirectories } from '../make-directories.ts';
import { Git2dbError } from '../xet/errors.ts';
import { StoreLayout } from '../xet/store/layout.ts';
import { forgetUser, registerUser } from '../xet/store/users.ts';
import type { AuthOptions } from './auth.ts';
import { CloneDirectory, cloneShape } from './clone-directory.ts';
import { askRemote, type CloneRequest, makeClone } from './clone-engine.ts';
import {
  type CheckedCloneOptions,
  type CloneOptions,
  type CloneProgress,
  checkCloneOptions,
} from './clone-options.ts';
import { checkAborted, NameError } from './errors.ts';
import type { RepositoryRecord } from './metadata.ts';
import type { NameReservation } from './name-reservation.ts';
import type { RecordSink } from './record-sink.ts';
import type { CheckoutWish } from './remote-refs.ts';
import { maskUrl, nameFromUrl, parseRemoteUrl, type RemoteUrl } from './remote-url.ts';
import { checkName } from './repository-name.ts';

export type { CloneOptions, CloneProgress, CloneStage } from './clone-options.ts';

export class CloneOperation implements PromiseLike<RepositoryRecord> {
  readonly #sink: RecordSink;
  readonly #url: string;
  #options: CloneOptions;
  #started: Promise<RepositoryRecord> | undefined;

  constructor(sink: RecordSink, url: string, options: CloneOptions = {}) {
    this.#sink = sink;
    this.#url = url;
    this.#options = options;
  }

  name(name: string): this {
    return this.#with({ name });
  }

  /** A branch, a tag, a full ref name or an object id. */
  ref(ref: string): this {
    return this.#with({ ref });
  }

  branch(branch: string): this {
    return this.#with({ branch });
  }

  tag(tag: string): this {
    return this.#with({ tag });
  }

  depth(commits: number): this {
    return this.#with({ depth: commits });
  }

  /** One commit of history, or (false) all of it, whatever depth was said before. */
  shallow(shallow = true): this {
    return this.#with(shallow ? { depth: 1 } : { depth: undefined, shallowSince: undefined });
  }

  shallowSince(date: string): this {
    return this.#with({ shallowSince: date });
  }

  filter(filter: string): this {
    return this.#with({ filter });
  }

  sparse(directories: boolean | readonly string[] = true): this {
    return this.#with({ sparse: directories });
  }

  bare(bare = true): this {
    return this.#with({ bare });
  }

  submodules(submodules: boolean | 'recursive' = true): this {
    return this.#with({ submodules });
  }

  auth(auth: AuthOptions): this {
    return this.#with({ auth });
  }

  trust(trust = true): this {
    return this.#with({ trust });
  }

  /** False: without the pre-push hook. */
  hooks(hooks = true): this {
    return this.#with({ hooks });
  }

  metadata(metadata: Readonly<Record<string, string>>): this {
    return this.#with({ metadata });
  }

  followRedirects(follow = true): this {
    return this.#with({ followRedirects: follow });
  }

  progress(progress: (event: CloneProgress) => void): this {
    return this.#with({ progress });
  }

  signal(signal: AbortSignal): this {
    return this.#with({ signal });
  }

  /** Starts, unless it has started; always the same promise. */
  exec(): Promise<RepositoryRecord> {
    this.#started ??= cloneIntoRegistry(this.#sink, this.#url, this.#options);
    return this.#started;
  }

  // biome-ignore lint/suspicious/noThenProperty: awaiting the operation is what starts it.
  then<A = RepositoryRecord, B = never>(
    onFulfilled?: ((record: RepositoryRecord) => A | PromiseLike<A>) | null,
    onRejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.exec().then(onFulfilled, onRejected);
  }

  catch<B = never>(
    onRejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<RepositoryRecord | B> {
    return this.exec().catch(onRejected);
  }

  finally(onFinally?: (() => void) | null): Promise<RepositoryRecord> {
    return this.exec().finally(onFinally);
  }

  #with(more: CloneOptions): this {
    if (this.#started !== undefined) {
      throw new Git2dbError('USAGE', 'the clone has started: say what it shall be before exec() or await');
    }
    this.#options = { ...this.#options, ...more };
    return this;
  }
}

async function cloneIntoRegistry(
  sink: RecordSink,
  url: string,
  given: CloneOptions,
): Promise<RepositoryRecord> {
  checkArguments('clone', ['url', 'options?'], [url, given]);
  const options = checkCloneOptions(given);
  const { signal, progress } = options;
  const remote = parseRemoteUrl(url);
  const name = cloneName(given.name, remote);
  checkAborted(signal, `the clone of ${maskUrl(url)}`);
  const known = sink.find(name);
  if (known?.name === name) return sameRepository(known, remote);
  const reservation = await sink.reserveName(name, {
    signal,
    onWait: () => progress?.({ kind: 'stage', stage: 'waiting' }),
  });
  try {
    if (reservation.record !== undefined) {
      await reservation.release();
      return sameRepository(reservation.record, remote);
    }
    return await sink.manager.run(
      `clone of ${remote.url} as ${name}`,
      () => cloneReserved(sink, reservation, { remote, givenUrl: url, options }, given),
      { signal },
    );
  } catch (error) {
    await reservation.release();
    throw error;
  }
}

/** The name is ours until the entry is there for good: nobody else looks at the directory. */
async function cloneReserved(
  sink: RecordSink,
  reservation: NameReservation,
  what: { readonly remote: RemoteUrl; readonly givenUrl: string; readonly options: CheckedCloneOptions },
  given: CloneOptions,
): Promise<RepositoryRecord> {
  const { remote, options } = what;
  const { progress, signal, bare } = options;
  const { name } = reservation;
  const directory = new CloneDirectory(join(sink.root, 'repos'), name);
  const store = sink.home.store;
  const request: CloneRequest = { ...what, config: sink.config, env: sink.env, store };
  const inTheMaking = bare ? directory.repository : join(directory.repository, '.git');
  /** Takes back what was made; also when a transaction fails long after the clone was done. */
  async function undo(): Promise<void> {
    await directory.remove();
    if (store !== undefined) forgetCommonDir(store, inTheMaking);
    await reservation.release();
  }
  async function committed(): Promise<void> {
    const place = join(sink.root, 'repos', name);
    if (store !== undefined) moveUser(store, inTheMaking, bare ? place : join(place, '.git'));
    await directory.remove();
    await reservation.release();
  }
  try {
    progress?.({ kind: 'stage', stage: 'connecting' });
    makeDirectories(dirname(directory.path), 0o700);
    await using question = await askRemote(request, dirname(directory.path));
    const { refs } = question;
    const shape = cloneShape(remote.url, options, refs.objectFormat, wishName(refs.wish));
    const resumed = await directory.prepare(shape, signal);
    if (resumed) progress?.({ kind: 'stage', stage: 'connecting', resumed });
    const { trackingRef } = await makeClone(request, directory.repository, question);
    checkAborted(signal, `the clone of ${remote.url}`);
    progress?.({ kind: 'stage', stage: 'finishing' });
    return await sink.addRecord(
      { name, url: remote.url, bare, trusted: options.trusted, trackingRef, metadata: given.metadata },
      { from: directory.repository, undo, committed, signal },
    );
  } catch (error) {
    await undo();
    throw error;
  }
}

/** The store knows its repositories by path, and this one's has just changed. First the new one: gc trusts the list. */
function moveUser(store: string, from: string, to: string): void {
  const layout = new StoreLayout(store);
  if (!existsSync(layout.users)) return;
  registerUser(layout, to);
  forgetUser(layout, from);
}

function forgetCommonDir(store: string, commonDir: string): void {
  const layout = new StoreLayout(store);
  if (existsSync(layout.users)) forgetUser(layout, commonDir);
}

function wishName(wish: CheckoutWish): string | undefined {
  if (wish.kind === 'branch' || wish.kind === 'ref') return wish.ref;
  if (wish.kind === 'short-oid') return wish.prefix;
  return wish.kind === 'oid' ? wish.oid : undefined;
}

function cloneName(given: string | undefined, remote: RemoteUrl): string {
  const name = given ?? nameFromUrl(remote);
  if (name === undefined) {
    throw new NameError(
      'NAME_INVALID',
      `${remote.url} does not end in something that could be a name: give name`,
    );
  }
  checkName(name);
  return name;
}

/** Cloning again what is there is no error; taking its name for something else is. */
function sameRepository(record: RepositoryRecord, remote: RemoteUrl): RepositoryRecord {
  if (record.url !== undefined && parseRemoteUrl(record.url).canonical === remote.canonical) return record;
  throw new NameError(
    'NAME_TAKEN',
    `the name ${JSON.stringify(record.name)} belongs to ${record.url === undefined ? 'a repository without a URL' : record.url}: choose another name for ${remote.url}`,
    { data: { name: record.name, id: record.id, url: record.url, wanted: remote.url } },
  );
}
