/** Which tree a blob is in, by the order in which `git rev-list --objects` names them: each tree comes before what it has. */

/** The trees on the way to where rev-list is. */
export class TreeTrail {
  readonly #trail: { readonly oid: string; readonly path: Buffer }[] = [];

  enter(oid: string, path: Buffer): void {
    while (this.#trail.length > 0 && !isBelow(path, this.#trail.at(-1)!.path)) this.#trail.pop();
    this.#trail.push({ oid, path: Buffer.from(path) });
  }

  /** The tree that a blob of this path is in, if the path is whole. */
  treeOf(path: Buffer): string | undefined {
    const directory = path.subarray(0, Math.max(0, path.lastIndexOf(SLASH)));
    return this.#trail.findLast((tree) => tree.path.equals(directory))?.oid;
  }
}

const SLASH = 0x2f;

function isBelow(path: Buffer, directory: Buffer): boolean {
  if (directory.length === 0) return path.length > 0;
  const { length } = directory;
  return path.length > length && path[length] === SLASH && path.subarray(0, length).equals(directory);
}
