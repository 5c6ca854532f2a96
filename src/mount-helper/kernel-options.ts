/** The kernel's overlay in its own words: parameters of overlayfs, and the forms mount(2) takes them in. */
import type { MountOptions, XattrNamespace } from './mount-options.ts';
import { escapePath } from './option-text.ts';

/** One parameter. `path` values stand unescaped. */
export interface Parameter {
  readonly key: string;
  readonly value?: string;
  /** Ours, not asked for: left out where the kernel does not know it. */
  readonly isDefault: boolean;
}

export interface OverlayParameters {
  readonly lowers: readonly Buffer[];
  readonly upper: Buffer | undefined;
  readonly work: Buffer | undefined;
  readonly others: readonly Parameter[];
  /** `context="..."` and the like, as they were written. */
  readonly contexts: readonly Buffer[];
}

/** mount(2) copies a page, the last byte of which is NUL, and cuts off the rest without a word. */
export const PAGE_TEXT_MAX = 4095;

/** OVL_MAX_STACK of the kernel. */
export const LOWERS_MAX = 500;

/** By default what keeps uppers portable between kernels, other machines and our FUSE overlay. */
const DEFAULTS = { redirect_dir: 'on', index: 'off', metacopy: 'off', xino: 'auto' } as const;

/** `labels`: see `security-labels.ts`. */
export function overlayParameters(
  options: MountOptions,
  namespace: XattrNamespace,
  labels: readonly Buffer[] = [],
): OverlayParameters {
  const asked: Readonly<Record<keyof typeof DEFAULTS, string | undefined>> = {
    redirect_dir: options.redirectDir,
    index: onOff(options.index),
    metacopy: onOff(options.metacopy),
    xino: options.xino,
  };
  const others: Parameter[] = [];
  for (const [key, preset] of Object.entries(DEFAULTS) as [keyof typeof DEFAULTS, string][]) {
    const value = asked[key];
    // With userxattr the kernel follows no redirects and refuses to be told to.
    if (value === undefined && key === 'redirect_dir' && namespace === 'user') continue;
    others.push({ key, value: value ?? preset, isDefault: value === undefined });
  }
  if (namespace === 'user') others.push({ key: 'userxattr', isDefault: false });
  if (options.volatile) others.push({ key: 'volatile', isDefault: false });
  return {
    lowers: options.lowers,
    upper: options.upper,
    work: options.work,
    others,
    contexts: labels,
  };
}

function onOff(value: boolean | undefined): 'on' | 'off' | undefined {
  return value === undefined ? undefined : value ? 'on' : 'off';
}

/** What older kernels came without, the youngest first. */
const YOUNGEST_FIRST = [['xino'], ['metacopy'], ['index'], ['redirect_dir']] as const;

/** The parameters, then with fewer and fewer of our defaults. */
export function* withFewerDefaults(parameters: OverlayParameters): Generator<OverlayParameters> {
  yield parameters;
  let { others } = parameters;
  for (const keys of YOUNGEST_FIRST) {
    const kept = others.filter(
      ({ key, isDefault }) => !isDefault || !(keys as readonly string[]).includes(key),
    );
    if (kept.length === others.length) continue;
    others = kept;
    yield { ...parameters, others };
  }
}

/** Names of the defaults that `used` does without. */
export function droppedDefaults(wanted: OverlayParameters, used: OverlayParameters): string[] {
  return wanted.others.filter((each) => !used.others.includes(each)).map(formatParameter);
}

export function formatParameter({ key, value }: Parameter): string {
  return value === undefined ? key : `${key}=${value}`;
}

/** The text for mount(2). */
export function formatParameters({ lowers, upper, work, others, contexts }: OverlayParameters): Buffer {
  const parts: Buffer[] = [];
  const add = (...pieces: readonly (Buffer | string)[]) => {
    if (parts.length > 0) parts.push(Buffer.from(','));
    parts.push(...pieces.map((piece) => (typeof piece === 'string' ? Buffer.from(piece) : piece)));
  };
  const joined = lowers.flatMap((path, i) =>
    i === 0 ? [escapePath(path)] : [Buffer.from(':'), escapePath(path)],
  );
  add('lowerdir=', ...joined);
  if (upper !== undefined) add('upperdir=', escapePath(upper));
  if (work !== undefined) add('workdir=', escapePath(work));
  for (const parameter of others) add(formatParameter(parameter));
  for (const context of contexts) add(context);
  return Buffer.concat(parts);
}

/** The longest directory that all paths lie in. */
export function commonDirectory(paths: readonly Buffer[]): Buffer {
  const [first, ...rest] = paths.map((path) => path.toString('latin1').split('/'));
  let length = first!.length - 1;
  for (const parts of rest) {
    let same = 0;
    while (same < length && same < parts.length - 1 && parts[same] === first![same]) same++;
    length = same;
  }
  return Buffer.from(first!.slice(0, length).join('/') || '/', 'latin1');
}

/** The same parameters for a process in `directory`, which all paths lie in. */
export function relativeTo(directory: Buffer, parameters: OverlayParameters): OverlayParameters {
  const start = directory.length === 1 ? 1 : directory.length + 1;
  const relative = (path: Buffer) => path.subarray(start);
  const { upper, work } = parameters;
  return {
    ...parameters,
    lowers: parameters.lowers.map(relative),
    upper: upper === undefined ? undefined : relative(upper),
    work: work === undefined ? undefined : relative(work),
  };
}
