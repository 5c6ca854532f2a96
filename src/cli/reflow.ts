/** Breaks the text of a manual anew: paragraphs, and lists of terms with their meanings beside them. */

/**
 * In the place of each space that is to stay: yargs takes what is space off the beginnings of lines. For private use, so
 * it stands in no text of ours.
 */
const KEPT = '\ue000';

/**
 * The lines of a paragraph are joined, for yargs to break them. A list has a term a line, indented, two spaces or more
 * and its meaning, which goes on in lines that are indented further: it is broken here, at `columns`. What
 * comes of it goes through `spaced` after yargs has had it.
 */
export function reflow(text: string, columns: number): string {
  return text
    .replace(/(\S)\n(?=\S)/g, '$1 ')
    .replace(/^( +)(\S+(?: \S+)*)( {2,})(\S.*(?:\n\1 .*)*)/gm, (_, indent, term, gap, meaning) => {
      const head = `${indent}${term}${gap}`;
      const lines = broken(meaning.split(/\s+/), columns - head.length);
      return lines.map((line, i) => (i === 0 ? kept(head) : KEPT.repeat(head.length)) + line).join('\n');
    })
    .replace(/^ +/gm, kept);
}

/** The text that yargs has made of it. */
export function spaced(text: string): string {
  return text.replaceAll(KEPT, ' ');
}

function kept(spaces: string): string {
  return spaces.replaceAll(' ', KEPT);
}

function broken(words: readonly string[], width: number): string[] {
  const lines: string[] = [];
  for (const word of words) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= width)
      lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines;
}
