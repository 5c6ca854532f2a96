/** Refspecs from outside: `[+]<source>[:<destination>]`, for a fetch also `^<source>` (gitglossary(7)). */
import { checkRevision, whyNoRefName } from '../../git/ref-name.ts';
import { Git2dbError } from '../../xet/errors.ts';

/** Throws REF_INVALID. Sources are refs of the remote, or object ids. */
export function checkFetchRefspec(text: string): string {
  const negative = text.startsWith('^');
  const [source, destination] = sides(text, negative ? '^' : '+');
  if (negative && destination !== undefined) throw invalid(text, 'one that excludes refs has no destination');
  const why =
    (source === '' ? (destination === undefined ? 'it is empty' : undefined) : whyNoSide(source)) ??
    (destination === undefined || destination === '' ? undefined : whyNoSide(destination));
  if (why !== undefined) throw invalid(text, why);
  if (destination?.includes('*') === true && !source.includes('*'))
    throw invalid(text, 'only one side has a "*"');
  return text;
}

/** Sources are revisions of this repository; an empty one deletes the destination. */
export function checkPushRefspec(text: string): string {
  const [source, destination] = sides(text, '+');
  if (destination === undefined && source === '') throw invalid(text, 'it is empty');
  if (source !== '') {
    checkRevision(source, 'the source of a refspec');
    const why = source.includes('*') || destination === undefined ? whyNoSide(source) : undefined;
    if (why !== undefined) throw invalid(text, why);
  }
  if (destination !== undefined) {
    const why =
      destination === '' ? (source === '' ? undefined : 'its destination is empty') : whyNoSide(destination);
    if (why !== undefined) throw invalid(text, why);
  }
  return text;
}

function sides(text: string, sign: '+' | '^'): [source: string, destination: string | undefined] {
  const rest = text.startsWith(sign) ? text.slice(1) : text;
  if (rest.startsWith('-')) throw invalid(text, 'it begins with "-"');
  const colon = rest.lastIndexOf(':');
  return colon < 0 ? [rest, undefined] : [rest.slice(0, colon), rest.slice(colon + 1)];
}

/** A name, with at most one `*` in it. */
function whyNoSide(side: string): string | undefined {
  if (side === '@') return undefined;
  if (side.split('*').length > 2) return 'it has more than one "*" on a side';
  return whyNoRefName(side.replace('*', 'x'));
}

function invalid(text: string, why: string): Git2dbError {
  return new Git2dbError('REF_INVALID', `${JSON.stringify(text)} is no refspec: ${why}`, {
    data: { refspec: text },
  });
}
