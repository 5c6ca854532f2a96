/**
 * Owners as the mount shows them and as the layers have them: `squash_to_uid`, `squash_to_gid`,
 * `uidmapping`, `gidmapping` (see `IdRange`). Ids in no range become the overflow id.
 */
import type { IdRange, MountOptions } from '../mount-options.ts';

const OVERFLOW = 65534;

export class Ids {
  readonly #squashUid: number | undefined;
  readonly #squashGid: number | undefined;
  readonly #uids: readonly IdRange[];
  readonly #gids: readonly IdRange[];
  /** Shown and stored are the same. */
  readonly arePlain: boolean;

  constructor(options: Pick<MountOptions, 'squashToUid' | 'squashToGid' | 'uidMapping' | 'gidMapping'>) {
    this.#squashUid = options.squashToUid;
    this.#squashGid = options.squashToGid;
    this.#uids = options.uidMapping;
    this.#gids = options.gidMapping;
    this.arePlain =
      this.#squashUid === undefined &&
      this.#squashGid === undefined &&
      this.#uids.length === 0 &&
      this.#gids.length === 0;
  }

  shownUid(uid: number): number {
    return this.#squashUid ?? translate(this.#uids, uid, 'inside', 'outside');
  }

  shownGid(gid: number): number {
    return this.#squashGid ?? translate(this.#gids, gid, 'inside', 'outside');
  }

  /** The id to store, or undefined where all ids are shown as one and none is stored. */
  storedUid(uid: number): number | undefined {
    return this.#squashUid === undefined ? translate(this.#uids, uid, 'outside', 'inside') : undefined;
  }

  storedGid(gid: number): number | undefined {
    return this.#squashGid === undefined ? translate(this.#gids, gid, 'outside', 'inside') : undefined;
  }
}

type Side = 'inside' | 'outside';

function translate(ranges: readonly IdRange[], id: number, from: Side, to: Side): number {
  if (ranges.length === 0) return id;
  for (const range of ranges) {
    if (id >= range[from] && id < range[from] + range.count) return range[to] + (id - range[from]);
  }
  return OVERFLOW;
}
