/**
 * Git's progress, as it comes on stderr with `--progress`:
 *
 *     [remote: ]Receiving objects:  42% (420/1000), 1.20 MiB | 3.00 MiB/s CR ... , done. LF
 *     [remote: ]Enumerating objects: 17, done. LF
 */
export interface GitProgress {
  /** `Receiving objects`; `remote: ` is left away. */
  readonly title: string;
  readonly done: number;
  readonly total?: number;
}

const COUNTED = /^(?:remote: )?([A-Z][^:%]*): +\d+% \((\d+)\/(\d+)\)/;
const UNCOUNTED = /^(?:remote: )?([A-Z][^:%]*): +(\d+)(?:, done\.)?$/;
/** No line of progress is longer; what is, is no progress. */
const MAX_LINE = 1024;

/** Takes stderr in any slices; every line of progress is one event, everything else is passed over. */
export function progressLines(onProgress: (event: GitProgress) => void): (piece: Buffer) => void {
  let rest = '';
  return (piece) => {
    const lines = (rest + piece.toString('latin1')).split(/[\r\n]+/);
    rest = lines.pop()!.slice(-MAX_LINE);
    for (const line of lines) {
      const event = parseProgress(line.trimEnd());
      if (event !== undefined) onProgress(event);
    }
  };
}

export function parseProgress(line: string): GitProgress | undefined {
  const counted = COUNTED.exec(line);
  if (counted !== null) return { title: counted[1]!, done: Number(counted[2]), total: Number(counted[3]) };
  const uncounted = UNCOUNTED.exec(line);
  return uncounted === null ? undefined : { title: uncounted[1]!, done: Number(uncounted[2]) };
}
