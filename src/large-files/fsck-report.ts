/** What an fsck finds and tells. */

import type { StoreCheck } from '../xet/store/fsck.ts';
import type { Damage, FileFault } from '../xet/store/fsck-damage.ts';
import type { RepairLog } from '../xet/store/fsck-repair.ts';

/** `missing`: it is nowhere. `damaged`: what is there is not it. `wrong-size`: the pointer itself cannot be right. */
export type LossState = 'missing' | 'damaged' | 'wrong-size';

/** A pointer whose content is not here. */
interface NamedFile {
  /** Common git directory. */
  readonly repository: string;
  /** The first commit that has it; undefined when only an index has it. */
  readonly commit: string | undefined;
  /** In the tree of that commit; empty when git knows none. */
  readonly path: Buffer;
  /** The pointer's blob. */
  readonly oid: string;
  readonly fileHash: string;
  readonly size: number;
}

/** A pointer whose content the store cannot give. */
export interface LostFile extends NamedFile {
  readonly state: LossState;
  /** At least one, at most 16. */
  readonly faults: readonly FileFault[];
}

/** A pointer whose content is not here, and need not be: somebody else holds it. */
export interface ElsewhereFile extends NamedFile {
  /** A directory or URL without user, token or query. */
  readonly place: string;
  /** When that place last proved to hold it: now, or when the content was evicted. */
  readonly provedAt: Date;
}

export interface FsckReport {
  /** Directory of the store. */
  readonly store: string;
  readonly checked: StoreCheck['checked'] & { readonly pointers: number; readonly repositories: number };
  readonly damage: readonly Damage[];
  /** After a repair: what stays lost. */
  readonly lost: readonly LostFile[];
  /** What remotes hold; of what was evicted that is as it was then, unless they were asked. */
  readonly elsewhere: readonly ElsewhereFile[];
  /** Repositories that use the store and could not be looked at. */
  readonly unreadable: readonly { readonly commonDir: string; readonly reason: string }[];
  /** Files, by hash, that the store describes and cannot give, and that no pointer names. */
  readonly unreferenced: readonly string[];
  /** Xorbs that no shard describes. */
  readonly undescribed: readonly string[];
  /** Shards that are gone, though the catalog knows of them. */
  readonly missingShards: readonly string[];
  /** Files that are no part of a store, from its root. */
  readonly strays: readonly string[];
  /** Objects that partial clones do not have: pointers below them were not seen. */
  readonly absentObjects: number;
  readonly repair:
    | (RepairLog & { readonly healed: readonly LostFile[]; readonly remaining: readonly Damage[] })
    | undefined;
}

/** True if nothing is damaged and nothing lost that anybody may want. */
export function isAllWell(report: FsckReport): boolean {
  const { damage, lost, repair, unreadable, unreferenced } = report;
  // Who cannot be looked at may well have a pointer to what nobody else names.
  const mayBeWanted = unreadable.length > 0 && unreferenced.length > 0;
  return lost.length === 0 && !mayBeWanted && (repair?.remaining ?? damage).length === 0;
}
