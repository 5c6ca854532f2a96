/** The contract of stores, for a CAS that is none of ours; test/server has it for git2db serve. */
import { Shard } from '../../../src/xet/shard/shard.ts';
import type { Store } from '../../../src/xet/store/store.ts';
import { storeContract } from '../store/store-contract.ts';
import { openStore } from './cas-rig.ts';
import { CasServer } from './cas-server.ts';

const servers = new WeakMap<Store, CasServer>();

/** Looks up what it has sent: such a service tells where chunks are for files that it was asked for. */
function lookingUp(store: Store): Store {
  return {
    place: store.place,
    isReadOnly: store.isReadOnly,
    findFiles: (hashes, options) => store.findFiles(hashes, options),
    findSha256s: (sha256s, options) => store.findSha256s(sha256s, options),
    findChunks: (hashes, options) => store.findChunks(hashes, options),
    readFooter: (xorbHash, options) => store.readFooter(xorbHash, options),
    readRecords: (ranges, options) => store.readRecords(ranges, options),
    hasXorb: (xorbHash, options) => store.hasXorb(xorbHash, options),
    putXorb: (xorb, options) => store.putXorb(xorb, options),
    putShard: async (shard, options) => {
      const isNew = await store.putShard(shard, options);
      await store.findFiles([...Shard.openUpload(shard).files()].map(({ fileHash }) => fileHash));
      return isNew;
    },
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
  };
}

for (const [name, options] of [
  ['a foreign CAS', { extensions: false }],
  [
    'a foreign CAS that signs ranges',
    { extensions: false, signsRanges: true, key: new Uint8Array(32).fill(3) },
  ],
] as const) {
  storeContract(name, {
    open: async (t) => {
      const cas = await CasServer.start(t, options);
      const store = lookingUp(openStore(t, cas).store);
      servers.set(store, cas);
      return store;
    },
    openAgain: async (t, store) => openStore(t, servers.get(store) as CasServer).store,
    showsFooters: false,
    findsAllChunks: false,
    findsSha256s: false,
  });
}
