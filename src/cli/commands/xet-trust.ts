import { EXIT_FALSE, EXIT_OK } from '../../exit-codes.ts';
import { Git2dbError } from '../../xet/errors.ts';
import { defineCommand } from '../command.ts';

export const xetTrust = defineCommand({
  path: ['xet', 'trust'],
  summary: 'Allow a place that repositories name for content',
  description: `A .gitxet is written by whoever can commit. If it names a place on another authority
(scheme, host and port) than the git remote, content is neither sent there nor fetched
from there until you say here that you trust the place. The list is yours, outside of
every repository: $XDG_STATE_HOME/git2db/trusted (~/.local/state without it).

URL is the place as .gitxet names it, or https://HOST for everything on a server. A place
in git's own configuration (remote.NAME.xeturl, xet.remote) needs no trust.

JSON: {"trusted":["URL"],"changed"}.`,
  operands: { usage: '[URL...]', min: 0, max: Number.POSITIVE_INFINITY },
  options: {
    list: { type: 'boolean', describe: 'List what is trusted (as without URL)' },
    remove: { type: 'boolean', describe: 'Trust URL no more', conflicts: ['list'] },
  },
  examples: [
    ['git2db xet trust https://xet.example.org/team', 'the place that .gitxet names'],
    ['git2db xet trust --list', 'what is trusted'],
  ],
  exitCodes: [
    [EXIT_FALSE, 'With --remove: a URL was not trusted'],
    [52, 'URL is no address of a place'],
  ],
  async run({ options, operands }, context) {
    const { env, output, json } = context;
    if (options.list && operands.length > 0) throw new Git2dbError('USAGE', '--list takes no URL');
    if (options.remove && operands.length === 0) throw new Git2dbError('USAGE', '--remove needs a URL');
    const { addTrusted, listTrusted, removeTrusted } = await import('../large-files-library.ts');
    const change = options.remove ? removeTrusted : addTrusted;
    const changed = operands.filter((url) => change(url, env));
    const trusted = listTrusted(env);
    if (json) output.json({ trusted, changed: changed.length > 0 });
    else if (operands.length === 0) for (const url of trusted) output.data(url);
    else output.note(`${changed.length} of ${operands.length} ${options.remove ? 'removed' : 'added'}`);
    return options.remove && changed.length < operands.length ? EXIT_FALSE : EXIT_OK;
  },
});
