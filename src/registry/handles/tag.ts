/** Tags by their short names: light ones (a ref alone), annotated and signed ones (an object with a message). */
import { guardMethods } from '../../arguments.ts';
import { fullRefName } from '../../git/ref-name.ts';
import { Git2dbError } from '../../xet/errors.ts';
import { ReferenceError_ } from '../errors.ts';
import type { GitPlace } from '../git-place.ts';
import { nearMatches } from '../near-matches.ts';
import { type GitDate, identityEnv, type Person } from './identity.ts';
import { attempt } from './outcome.ts';
import type { PushOptions, PushResult } from './push.ts';
import { resolveCommit, resolveObject } from './revision.ts';

export interface Tag {
  readonly name: string;
  readonly ref: string;
  /** The tag object, or of a light tag what it names. */
  readonly oid: string;
  readonly isAnnotated: boolean;
  /** What is tagged, tags of tags followed. */
  readonly target: string;
  readonly targetType: 'commit' | 'tree' | 'blob' | 'tag';
  readonly tagger: { readonly name: string; readonly email: string; readonly date: number } | undefined;
  /** First line of the message. */
  readonly subject: string | undefined;
}

export interface TagOptions {
  /** HEAD unless given. */
  readonly target?: string | undefined;
  /** Makes it an annotated tag. */
  readonly message?: string | undefined;
  readonly tagger?: Person | undefined;
  readonly date?: GitDate | undefined;
  /** True: with the configured key; a text: with that key. Needs a message. */
  readonly sign?: boolean | string | undefined;
  /** Replaces a tag of this name. */
  readonly force?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface TagListOptions {
  /** As fnmatch(3): `v1.*`. */
  readonly pattern?: string | undefined;
  /** `name` unless given; `version`: v2 before v10; `date`: newest first. */
  readonly sort?: 'name' | 'version' | 'date' | undefined;
  readonly contains?: string | undefined;
  readonly merged?: string | undefined;
  readonly pointsAt?: string | undefined;
}

export interface TagVerification {
  readonly isValid: boolean;
  /** What the signing program said. */
  readonly report: string;
}

const FORMAT = [
  'refname',
  'objectname',
  'objecttype',
  '*objectname',
  '*objecttype',
  'taggername',
  'taggeremail',
  'taggerdate:unix',
  'contents:subject',
]
  .map((field) => `%(${field})`)
  .join('%00');
const SORT = { name: 'refname', version: 'version:refname', date: '-creatordate' } as const;

export class TagManager {
  readonly #place: GitPlace;
  readonly #push: (remote: string | undefined, options: PushOptions) => Promise<PushResult>;

  constructor(
    place: GitPlace,
    push: (remote: string | undefined, options: PushOptions) => Promise<PushResult>,
  ) {
    this.#place = place;
    this.#push = push;
  }

  /** A light tag, or with a message an annotated one. Throws REF_EXISTS. */
  async create(name: string, options: TagOptions = {}): Promise<Tag> {
    const ref = fullRefName('tag', name);
    const { message, sign } = options;
    if (message === undefined && (sign !== undefined || options.tagger !== undefined)) {
      throw new Git2dbError(
        'USAGE',
        `a tagger or a signature needs an annotated tag: give ${JSON.stringify(name)} a message`,
      );
    }
    const { oid } = await resolveObject(this.#place, options.target ?? 'HEAD');
    const args = ['tag', ...(options.force === true ? ['--force'] : [])];
    if (message !== undefined) {
      args.push('--file=-');
      args.push(
        sign === undefined
          ? '--annotate'
          : sign === false
            ? '--no-sign'
            : sign === true
              ? '--sign'
              : `--local-user=${sign}`,
      );
      if (sign === false) args.push('--annotate');
    } else {
      args.push('--no-sign');
    }
    await this.#place.git([...args, '--end-of-options', name, oid], {
      input: message,
      env: { ...identityEnv({ committer: options.tagger, date: options.date }), GIT_EDITOR: ':' },
      // tag.gpgSign would make a light tag a signed one.
      config: [
        ['tag.forceSignAnnotated', 'false'],
        ...(message === undefined ? ([['tag.gpgSign', 'false']] as const) : []),
      ],
      signal: options.signal,
    });
    return this.#get(ref);
  }

  annotate(name: string, message: string, options: Omit<TagOptions, 'message'> = {}): Promise<Tag> {
    return this.create(name, { ...options, message });
  }

  async list(options: TagListOptions = {}): Promise<Tag[]> {
    const args = ['for-each-ref', `--format=${FORMAT}`, `--sort=${SORT[options.sort ?? 'name']}`];
    if (options.contains !== undefined)
      args.push(`--contains=${await resolveCommit(this.#place, options.contains)}`);
    if (options.merged !== undefined)
      args.push(`--merged=${await resolveCommit(this.#place, options.merged)}`);
    if (options.pointsAt !== undefined)
      args.push(`--points-at=${(await resolveObject(this.#place, options.pointsAt)).oid}`);
    const pattern = options.pattern ?? '';
    if (/[\0\n]/.test(pattern))
      throw new ReferenceError_(`${JSON.stringify(pattern)} is no pattern for tags`);
    args.push(`refs/tags/${pattern}`);
    const text = await this.#place.text(args);
    return text === '' ? [] : Promise.all(text.split('\n').map((line) => this.#parse(line)));
  }

  get(name: string): Promise<Tag> {
    return this.#get(fullRefName('tag', name));
  }

  async exists(name: string): Promise<boolean> {
    return (await this.#place.objects.info(fullRefName('tag', name))) !== undefined;
  }

  /** The message of an annotated tag, with its signature; undefined for a light one. */
  async message(name: string): Promise<string | undefined> {
    const object = await this.#place.objects.read(fullRefName('tag', name));
    if (object?.type !== 'tag') return undefined;
    return object.body.toString('utf8', object.body.indexOf('\n\n') + 2);
  }

  /** All of them or, when one does not exist, none. */
  async delete(names: string | readonly string[]): Promise<Tag[]> {
    const wanted = typeof names === 'string' ? [names] : names;
    const tags: Tag[] = [];
    for (const name of wanted) tags.push(await this.get(name));
    const commands = tags.map(({ ref, oid }) => `delete ${ref}\0${oid}\0`).join('');
    if (commands !== '') await this.#place.git(['update-ref', '--stdin', '-z'], { input: commands });
    return tags;
  }

  /** Pushes these tags, and nothing else, to a remote; to the default one unless given. */
  async push(
    names: string | readonly string[],
    options: Omit<PushOptions, 'refs' | 'tags' | 'delete'> & { readonly remote?: string | undefined } = {},
  ): Promise<PushResult> {
    const refs: string[] = [];
    for (const name of typeof names === 'string' ? [names] : names) refs.push((await this.get(name)).ref);
    const { remote, ...rest } = options;
    return this.#push(remote, { ...rest, refs: refs.map((ref) => `${ref}:${ref}`) });
  }

  /** Checks the signature. Throws REF_INVALID when there is no such tag; an unsigned tag is not valid. */
  async verify(name: string): Promise<TagVerification> {
    const { oid, isAnnotated } = await this.get(name);
    if (!isAnnotated) return { isValid: false, report: `${name} is a light tag, which has no signature` };
    const outcome = await attempt(this.#place, ['verify-tag', '--raw', oid]);
    return { isValid: outcome.status === 0, report: outcome.stderr.trim() };
  }

  /** Git 2.45 and older follow one tag only. */
  async #parse(line: string): Promise<Tag> {
    const tag = parseTag(line);
    if (tag.targetType !== 'tag') return tag;
    const target = await this.#place.objects.info(`${tag.oid}^{}`);
    return target === undefined ? tag : { ...tag, target: target.oid, targetType: target.type };
  }

  async #get(ref: string): Promise<Tag> {
    const text = await this.#place.text(['for-each-ref', `--format=${FORMAT}`, ref]);
    const line = text.split('\n').find((found) => found.startsWith(`${ref}\0`));
    if (line !== undefined) return this.#parse(line);
    const name = ref.slice('refs/tags/'.length);
    const near = nearMatches(
      name,
      (await this.list()).map((tag) => tag.name),
    );
    const hint =
      near.length === 0 ? '' : `; did you mean ${near.map((other) => JSON.stringify(other)).join(', ')}?`;
    throw new ReferenceError_(`there is no tag ${JSON.stringify(name)} in ${this.#place.commonDir}${hint}`, {
      data: { name, near },
    });
  }
}

function parseTag(line: string): Tag {
  const [ref, oid, type, peeled, peeledType, tagger, email, date, subject] = line.split('\0') as [
    string,
    string,
    Tag['targetType'],
    string,
    Tag['targetType'],
    string,
    string,
    string,
    string,
  ];
  const isAnnotated = type === 'tag';
  return {
    name: ref.slice('refs/tags/'.length),
    ref,
    oid,
    isAnnotated,
    target: isAnnotated ? peeled : oid,
    targetType: isAnnotated ? peeledType : type,
    tagger:
      isAnnotated && tagger !== ''
        ? { name: tagger, email: email.replace(/^<|>$/g, ''), date: Number(date) }
        : undefined,
    subject: isAnnotated ? subject : undefined,
  };
}

guardMethods(TagManager, {
  create: ['name', 'options?'],
  annotate: ['name', 'message', 'options?'],
  list: ['options?'],
  get: ['name'],
  exists: ['name'],
  message: ['name'],
  delete: ['names:text|texts'],
  push: ['names:text|texts', 'options?:any'],
  verify: ['name'],
});
