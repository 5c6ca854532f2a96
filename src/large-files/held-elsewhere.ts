/** Which contents the remotes of a repository provably hold: each remote is asked for what is still open. */
import { Git2dbError } from '../xet/errors.ts';
import { parseHash } from '../xet/hash/xet-hash.ts';
import type { LocalStore } from '../xet/store/local-store.ts';
import type { Store } from '../xet/store/store.ts';
import { proveHeld } from '../xet/transfer/proof.ts';
import type { WantedFile } from '../xet/transfer/transfer.ts';
import type { ContentRemotes, OpenedRemote } from './content-remotes.ts';

export interface AskedContent {
  /** String form. */
  readonly hash: string;
  /** Bytes. */
  readonly size: number;
}

/** `place`: where it is. Else why that is not proved, a remark of each remote. */
export type HeldAnswer =
  | { readonly place: string }
  | { readonly place: undefined; readonly doubts: readonly string[] };

export interface HeldOptions {
  readonly signal?: AbortSignal | undefined;
  /** Why what this remote says is no proof, whatever it is; undefined: it is. */
  readonly objection?:
    | ((opened: OpenedRemote & { readonly store: Store }) => Promise<string | undefined>)
    | undefined;
  /** Before a remote is asked for that many. */
  readonly onAsk?: ((files: number, place: string) => void) | undefined;
}

/** In the order of `contents`. A remote that cannot be asked proves nothing. Throws an AbortError. */
export async function askRemotes(
  remotes: ContentRemotes,
  local: LocalStore,
  contents: readonly AskedContent[],
  options: HeldOptions = {},
): Promise<HeldAnswer[]> {
  const places = new Map<string, string>();
  const doubts = new Map<string, string[]>();
  for (const name of await remotes.git.inOrder()) {
    const left = contents.filter(({ hash }) => !places.has(hash));
    if (left.length === 0) break;
    const answers = await askOne(remotes, local, name, left, options);
    for (const [i, answer] of answers.entries()) {
      const { hash } = left[i] as AskedContent;
      if (typeof answer === 'string') doubts.set(hash, [...(doubts.get(hash) ?? []), answer]);
      else places.set(hash, answer.place);
    }
  }
  const nobody = ['there is no git remote that could have it'];
  return contents.map(({ hash }) => {
    const place = places.get(hash);
    return place === undefined ? { place, doubts: doubts.get(hash) ?? nobody } : { place };
  });
}

/** The place of each that the remote provably holds, else why not. */
async function askOne(
  remotes: ContentRemotes,
  local: LocalStore,
  name: string,
  left: readonly AskedContent[],
  { signal, objection, onAsk }: HeldOptions,
): Promise<(string | { readonly place: string })[]> {
  try {
    const opened = await remotes.open(name, 'fetch');
    const { store } = opened;
    if (store === undefined) return left.map(() => `${name}: the Hub keeps no content of filter=xet`);
    const why = await objection?.({ ...opened, store });
    if (why !== undefined) return left.map(() => `${name}: ${why}`);
    onAsk?.(left.length, store.place);
    const wanted = left.map(({ hash, size }): WantedFile => ({ hash: parseHash(hash), size }));
    const answers = await proveHeld(local, store, wanted, { signal });
    return answers.map((doubt) =>
      doubt === undefined ? { place: store.place } : `${name}: ${doubt.message}`,
    );
  } catch (error) {
    if (!(error instanceof Git2dbError)) throw error;
    return left.map(() => `${name}: ${error.message}`);
  }
}
