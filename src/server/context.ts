/** What the handlers of one server share. */
import type { ServableStore } from '../xet/store/store.ts';
import type { Repositories } from './git/repositories.ts';
import type { ServerKeys } from './keys.ts';
import type { Metrics } from './metrics.ts';
import type { AnonymousAccess, ServerLimits } from './options.ts';
import type { Slots } from './slots.ts';

export interface ServerContext {
  readonly store: ServableStore;
  readonly keys: ServerKeys;
  readonly limits: ServerLimits;
  readonly anonymous: AnonymousAccess;
  readonly metrics: Metrics;
  /** Undefined: no repositories are served. */
  readonly repositories: Repositories | undefined;
  /** A directory of this server alone, mode 0700: uploads that are being checked, the socket of the hook. */
  readonly runDirectory: string;
  /** Such a one, perhaps not made yet, for what the store is to take: on the file system of the store if possible. */
  readonly spoolDirectory: () => string;
  /** Uploads of xorbs, each of which holds a buffer. */
  readonly xorbSlots: Slots;
  /** Uploads of whole objects, each of which holds what cutting it into chunks takes. */
  readonly objectSlots: Slots;
  /** Shards of ordinary size. */
  readonly smallSlots: Slots;
  /** Whoever holds a shard, or something else of tens of MiB, in memory. */
  readonly largeSlots: Slots;
  /** Milliseconds since 1970. */
  readonly now: () => number;
}
