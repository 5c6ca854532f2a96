import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import { Ids } from '../../src/mount-helper/overlay/ids.ts';
import { InodeNumbers } from '../../src/mount-helper/overlay/inode-numbers.ts';
import { InodeTable, Node, ROOT } from '../../src/mount-helper/overlay/inode-table.ts';
import { bytesOf, cStringOf, nameOf, nameOfCString } from '../../src/mount-helper/overlay/names.ts';
import { Parts } from '../../src/mount-helper/overlay/parts.ts';
import { newStatx, S_IFDIR, S_IFREG, type Statx } from '../../src/mount-helper/system/statx.ts';
import { openLayer, scratch } from './helpers/scratch.ts';

function table(): { table: InodeTable; root: Node; dropped: number[] } {
  const dropped: number[] = [];
  const root = new Node(ROOT, S_IFDIR, 1n, undefined, '', []);
  return { table: new InodeTable(root, (node) => dropped.push(node.id)), root, dropped };
}

function statxOf(ino: bigint, device: bigint): Statx {
  const s = newStatx();
  s.writeBigUInt64LE(ino, 32);
  s.writeUInt32LE(Number(device >> 32n), 136);
  s.writeUInt32LE(Number(device & 0xffffffffn), 140);
  return s;
}

test('any bytes are a name', (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 255 }), (bytes) => {
      const name = nameOf(bytes);
      t.deepEqual([...bytesOf(name)], [...bytes]);
      t.is(nameOfCString(cStringOf(name)), name);
      t.is(cStringOf(name).at(-1), 0);
    }),
  );
});

test('a node is dropped when neither the kernel nor a child needs it, its parents with it', (t) => {
  const { table: nodes, root, dropped } = table();
  const a = nodes.add(S_IFDIR, 2n, root, 'a', []);
  const b = nodes.add(S_IFDIR, 3n, a, 'b', []);
  const f = nodes.add(S_IFREG, 4n, b, 'f');
  for (const node of [a, b, f]) node.lookups = 2;
  nodes.forget(a.id, 2);
  nodes.forget(b.id, 1);
  nodes.forget(f.id, 1);
  t.deepEqual(dropped, []);
  nodes.forget(b.id, 1);
  nodes.forget(f.id, 5);
  t.deepEqual(dropped, [f.id, b.id, a.id]);
  t.is(nodes.size, 1);
  nodes.forget(f.id, 1);
  nodes.forget(ROOT, 99);
  t.is(nodes.get(ROOT), root);
});

test('a file lives by its other names when the first goes, and is an orphan without any', (t) => {
  const { table: nodes, root } = table();
  const f = nodes.add(S_IFREG, 2n, root, 'f');
  f.lookups = 1;
  f.inUpper = true;
  nodes.setKey(f, 77);
  nodes.addLink(f, root, 'loose', false);
  nodes.addLink(f, root, 'g', true);
  nodes.addLink(f, root, 'g', true);
  t.false(nodes.removeLink(f, root, 'f'));
  t.is(f.name, 'g');
  t.is(nodes.byKey(77), f);
  t.true(nodes.removeLink(f, root, 'g'));
  t.true(f.isOrphan);
  t.is(nodes.byKey(77), undefined);
  t.is(root.directory!.children.size, 0);
  nodes.addLink(f, root, 'again', true);
  t.false(f.isOrphan);
  nodes.move(f, root, 'again', root, 'moved');
  t.deepEqual([...root.directory!.children.keys()], ['moved']);
  t.is(f.name, 'moved');
});

test('inode numbers of several file systems are told apart, and an origin gives the number back', (t) => {
  const numbers = new InodeNumbers([5n, 7n << 32n, 5n]);
  const [first, second, other] = [statxOf(100n, 5n), statxOf(100n, 7n << 32n), statxOf(100n, 99n)];
  t.is(numbers.shown(first), 100n);
  const shown = [first, second, other].map((s) => numbers.shown(s));
  t.is(new Set(shown).size, 3);
  t.is(new Set([first, second, other].map((s) => numbers.key(s))).size, 3);
  t.is(numbers.shownOn(7n << 32n, 100n), shown[1]!);
  t.is(numbers.fromOrigin(numbers.origin(second)), shown[1]);
  t.is(numbers.fromOrigin(Buffer.from('100:12345')), undefined);
  for (const text of ['', '1', '1:', ':1', '-1:5', '1:5:', 'x:5', '1 :5']) {
    t.is(numbers.fromOrigin(Buffer.from(text)), undefined, text);
  }
  const again = new InodeNumbers([5n, 7n << 32n]);
  t.is(again.shown(second), shown[1]!);
  const large = statxOf((1n << 60n) + 3n, 5n);
  t.not(numbers.key(large), numbers.key(statxOf((1n << 60n) + 4n, 5n)));
});

test('only so many directories are open at once, and closed ones open again', (t) => {
  const path = scratch(t);
  let below = path;
  for (let depth = 0; depth < 150; depth++) below = join(below, 'd');
  mkdirSync(below, { recursive: true });
  const { layer } = openLayer(t, path);
  const parts = new Parts([layer], 64);
  const chain = [parts.roots[0]!];
  for (let depth = 0; depth < 150; depth++) chain.push(parts.child(chain.at(-1)!, 'd'));
  t.not(typeof parts.open(chain.at(-1)!), 'number');
  t.true(chain.filter((part) => part.directory !== undefined).length <= 64);
  t.not(typeof parts.open(chain[5]!), 'number');
  const kept = chain[150]!;
  t.is(parts.pin(kept), 0);
  for (const part of chain.slice(0, 100)) t.not(typeof parts.open(part), 'number');
  t.not(kept.directory, undefined);
  parts.close(kept);
  parts.closeAll();
  t.true(chain.every((part) => part.directory === undefined));
  t.true((parts.open(parts.child(chain[0]!, 'none')) as number) < 0);
  parts.closeAll();
});

test('ids are mapped both ways, and what is in no range is the overflow id', (t) => {
  const range = { inside: 1000, outside: 0, count: 3 };
  const ids = new Ids({ uidMapping: [range], gidMapping: [] });
  t.deepEqual([ids.shownUid(1002), ids.shownUid(1003), ids.shownUid(0)], [2, 65534, 65534]);
  t.deepEqual([ids.storedUid(2), ids.storedUid(3)], [1002, 65534]);
  t.deepEqual([ids.shownGid(5), ids.storedGid(5)], [5, 5]);
  const squashed = new Ids({ squashToUid: 9, uidMapping: [], gidMapping: [] });
  t.deepEqual([squashed.shownUid(1), squashed.storedUid(1)], [9, undefined]);
});
