import { EXIT_FALSE, EXIT_OK } from '../../exit-codes.ts';
import { type Command, defineCommand, NO_OPERANDS } from '../command.ts';
import { count, plain } from '../present.ts';
import { REGISTRY_OPTIONS } from '../registry-options.ts';
import { loadLibrary, registryDirectory, withRegistry } from '../registry-session.ts';

export const verifyCommand: Command = defineCommand({
  path: ['verify'],
  summary: 'Look the registry over, changing nothing',
  description: `Compares what the registry has recorded with what is there: repositories, remotes,
worktrees, permissions, and what interrupted commands have left. For each finding it
tells what to do. Nothing is changed; contents of repositories are not read.

JSON: {"ok","findings":[{"code","path","id","message","remedy","repairable"}]}.`,
  operands: NO_OPERANDS,
  options: REGISTRY_OPTIONS,
  examples: [['git2db verify', 'is all in order?']],
  exitCodes: [
    [EXIT_FALSE, 'Something is not in order; it is told'],
    [55, 'There is no registry, or its metadata cannot be read'],
  ],
  async run({ options }, context) {
    const { output, json } = context;
    return withRegistry(options, context, async ({ db, signal }) => {
      const findings = await db.verify({ signal });
      if (json) output.json({ ok: findings.length === 0, findings: plain(findings) });
      else {
        for (const { code, message, remedy } of findings) {
          output.data(`${message} [${code}]`);
          output.data(`  ${remedy}`);
        }
        output.note(findings.length === 0 ? 'all is in order' : `${count(findings.length, 'finding')}`);
      }
      return findings.length === 0 ? EXIT_OK : EXIT_FALSE;
    });
  },
});

export const repairCommand: Command = defineCommand({
  path: ['repair'],
  summary: 'Mend the registry',
  description: `Mends what "git2db verify" finds, as far as nothing can be lost by it: completes or takes
back what was interrupted, mounts worktrees again after a reboot, and restores a broken
metadata file as it was one change ago (the broken one is put aside). What needs a person
is told. Doing it again does nothing more.

JSON: {"ok","done","left":[{"code","path","id","message","remedy","repairable"}],
"failed"}; "done" and "failed" are lines for a person.`,
  operands: NO_OPERANDS,
  options: REGISTRY_OPTIONS,
  examples: [['git2db repair', 'after a crash, a reboot or a move of the directory']],
  exitCodes: [
    [EXIT_FALSE, 'Something is left for a person, or could not be done; it is told'],
    [56, 'The registry was moved while worktrees are mounted'],
  ],
  async run({ options }, context) {
    const { output, json, cwd } = context;
    const env = context.env as NodeJS.ProcessEnv;
    const root = registryDirectory(options, context);
    const signal = context.interruptible();
    const library = await loadLibrary();
    const config = library.loadConfig({ cwd, env });
    await using manager = new library.GitManager({ config, env });
    const { done, left, failed } = await library.Git2DB.repair(root, { config, manager, env, signal });
    const ok = left.length === 0 && failed.length === 0;
    if (json) output.json({ ok, done, left: plain(left), failed });
    else {
      for (const line of done) output.data(line);
      for (const { message, remedy, code } of left) {
        output.data(`${message} [${code}]`);
        output.data(`  ${remedy}`);
      }
      if (ok && done.length === 0) output.note('there was nothing to mend');
    }
    for (const line of failed) output.error(line);
    return ok ? EXIT_OK : EXIT_FALSE;
  },
});
