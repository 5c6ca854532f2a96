import { readSync } from 'node:fs';
import { EXIT_FALSE, EXIT_OK } from '../../exit-codes.ts';
import { POINTER_MAX, type Pointer, sniffPointer } from '../../xet/pointer/sniff.ts';
import { formatPointer } from '../../xet/pointer/xet-pointer.ts';
import { type CommandContext, defineCommand } from '../command.ts';
import { digestWithProgress, readOperand } from '../operand-files.ts';

export const xetPointer = defineCommand({
  path: ['xet', 'pointer'],
  summary: 'Print the pointer of a file, or check whether a file is one',
  description: `Prints what git would store for FILE: its pointer. Pure computation, no
repository or store is touched. A FILE that is a pointer already is its own
pointer, and so is an empty one. "-" reads standard input.

With --check, says by its exit code whether FILE is a Xet pointer, written by
git2db or by another Xet program; a Git LFS pointer is none.

JSON: {"size","fileHash","pointer"}, the first two null when FILE is a pointer of
Git LFS. With --check: {"valid","kind","size","fileHash"}; "kind" is xet,
xet-json or xet-toml (other Xet programs), lfs, or null; "size" and "fileHash"
are null where "valid" is false.`,
  operands: { usage: 'FILE', min: 1, max: 1, complete: 'file' },
  options: {
    check: { type: 'boolean', describe: 'Print nothing, exit with 0 for a Xet pointer and 1 otherwise' },
  },
  examples: [
    ['git2db xet pointer model.bin', 'what "git show :model.bin" would print'],
    ['git2db xet pointer --check model.bin && echo "not fetched yet"', 'in a script'],
  ],
  exitCodes: [[EXIT_FALSE, 'FILE cannot be read, or with --check is no Xet pointer']],
  async run({ options, operands }, context) {
    const path = operands[0]!;
    const { digestFile } = await import('../large-files-library.ts');
    const done = readOperand(
      path,
      context,
      (fd, size) => {
        const head = readHead(fd);
        const pointer = sniffPointer(head);
        if (options.check) return reportCheck(path, pointer, context);
        if (pointer !== undefined) return printPointer(pointer, pointerText(pointer, head), context);
        const digest = digestWithProgress(path, context, { fd, size, head }, { sha256: false }, digestFile);
        const text = digest.size === 0 ? '' : formatPointer(digest.fileHash, digest.size).toString('latin1');
        return printPointer({ size: digest.size, hash: digest.fileHash }, text, context);
      },
      true,
    );
    return done ?? EXIT_FALSE;
  },
});

/** The beginning of a file: one byte more than a pointer can have, or less when it ends before. */
function readHead(fd: number): Buffer {
  const head = Buffer.alloc(POINTER_MAX + 1);
  let length = 0;
  while (length < head.length) {
    const got = readSync(fd, head, length, head.length - length, null);
    if (got === 0) break;
    length += got;
  }
  return head.subarray(0, length);
}

/** Our own pointers in canonical form, those of others as they are: what clean answers. */
function pointerText(pointer: Pointer, content: Buffer): string {
  return (pointer.kind === 'xet' ? formatPointer(pointer.hash, pointer.size) : content).toString('latin1');
}

function printPointer(
  facts: { readonly size: number; readonly hash: string } | Pointer,
  text: string,
  { output, json }: CommandContext,
): number {
  if (!json) output.text(text);
  else if ('hash' in facts) output.json({ size: facts.size, fileHash: facts.hash, pointer: text });
  else output.json({ size: null, fileHash: null, pointer: text });
  return EXIT_OK;
}

function reportCheck(path: string, pointer: Pointer | undefined, { output, json }: CommandContext): number {
  const valid = pointer !== undefined && pointer.kind !== 'lfs';
  if (json) {
    output.json({
      valid,
      kind: pointer?.kind ?? null,
      size: valid ? pointer.size : null,
      fileHash: valid ? pointer.hash : null,
    });
  } else if (pointer?.kind === 'lfs') output.note(`${path} is a Git LFS pointer, not a Xet pointer`);
  else output.detail(`${path} is ${valid ? `a Xet pointer (${pointer.kind})` : 'no pointer'}`);
  return valid ? EXIT_OK : EXIT_FALSE;
}
