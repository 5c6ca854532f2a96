import { createReadStream, readFileSync } from 'node:fs';
import { EXIT_OK } from '../../exit-codes.ts';
import { type Command, defineCommand, NO_OPERANDS } from '../command.ts';
import { formatBytes } from '../output.ts';
import { TransferBar } from '../transfer-bar.ts';
import { pushOptions, reportFailures, withBar } from './xet-push.ts';

const prePushHook = defineCommand({
  path: ['xet', 'hook', 'pre-push'],
  summary: "Git's pre-push hook: send content before refs move",
  description: `Git runs this before each push, if "git2db xet install" has put it into the hooks of the
repository. Standard input is what git writes to a pre-push hook; content that the pushed
refs need and the remote does not have is sent. When something is missing, the hook
fails, and git pushes nothing. "git push --no-verify" leaves it out, and so does
GIT2DB_SKIP_PUSH=1 in the environment; object ids there are passed over ("git2db push",
which has sent their content, names them to it).

JSON: {"place","sent","wireBytes"}; "place" is null where no pointer was pushed.`,
  operands: { usage: 'REMOTE URL', min: 2, max: 2 },
  options: {},
  examples: [['git2db xet hook pre-push "$@"', 'in .git/hooks/pre-push']],
  exitCodes: [[1, 'Some content could not be sent; all is named, and git does not push']],
  async run({ operands }, context) {
    const [remote, url] = operands as unknown as [string, string];
    const { output, env, json } = context;
    const { parseUpdates, prePush, updatesToSee } = await import('../large-files-library.ts');
    const updates = updatesToSee(parseUpdates(readFileSync(context.stdin, 'utf8')), env);
    const result = await withBar('sending content', context, (bar, signal) =>
      prePush(updates, {
        ...pushOptions(context, bar),
        remote,
        url,
        dryRun: false,
        mayPrompt: env.GIT_TERMINAL_PROMPT !== '0',
        signal,
      }),
    );
    const sent = result.files.filter(({ outcome }) => outcome === 'sent');
    if (json) output.json({ place: result.place ?? null, sent: sent.length, wireBytes: result.wireBytes });
    else if (sent.length > 0) {
      output.note(
        `git2db: content of ${sent.length} ${sent.length === 1 ? 'file' : 'files'} sent to ${result.place} (${formatBytes(result.wireBytes)} moved)`,
      );
    }
    return reportFailures(result, context);
  },
});

const fetchContentHook = defineCommand({
  path: ['xet', 'hook', 'fetch-content'],
  summary: 'Fetch for a filter: what it asks for on standard input',
  description: `git2db-filter starts this when a checkout needs content that is not here. A line of
standard input is "xet HASH SIZE" or "lfs SHA256 SIZE", and the commit or tree that is
checked out where git has said it; an empty line begins to fetch those before it. Each is answered by "ok KIND HASH" as soon as the store has it, or "no
KIND HASH CODE MESSAGE". It ends with its input, and gives up what is not complete then.

JSON: the same lines, whose MESSAGE is a JSON string.`,
  operands: NO_OPERANDS,
  options: {},
  examples: [['git2db xet hook fetch-content <questions', 'by hand; see git2db xet fetch']],
  exitCodes: [[23, 'A line that is no question']],
  async run(_, context) {
    const { cwd, env, output } = context;
    const { serveFetches } = await import('../large-files-library.ts');
    let bar: TransferBar | undefined;
    await serveFetches({
      cwd,
      env,
      mayPrompt: env.GIT_TERMINAL_PROMPT !== '0',
      input: createReadStream('', { fd: context.stdin, autoClose: false }) as AsyncIterable<Buffer>,
      answer: (line) => output.data(line),
      warn: (line) => output.warn(line),
      signal: context.interruptible(),
      onBatch: () => {
        bar = new TransferBar(output, 'fetching content');
      },
      onBatchEnd: () => bar?.finish(),
      onProgress: (event) => bar?.show(event),
    });
    return EXIT_OK;
  },
});

export const xetHookCommands: readonly Command[] = [prePushHook, fetchContentHook];
