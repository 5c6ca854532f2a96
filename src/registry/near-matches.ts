/** Names that were perhaps meant, for messages. */

/**
 * The best first: equal but for case, beginning alike, containing the word, or a few letters away
 * (Damerau-Levenshtein, up to a third of the word).
 */
export function nearMatches(word: string, candidates: Iterable<string>, most = 5): string[] {
  const wanted = word.toLowerCase();
  const scored: { readonly name: string; readonly score: number }[] = [];
  for (const name of candidates) {
    const score = scoreOf(wanted, name.toLowerCase());
    if (score !== undefined) scored.push({ name, score });
  }
  scored.sort((a, b) => a.score - b.score || (a.name < b.name ? -1 : 1));
  return scored.slice(0, most).map(({ name }) => name);
}

function scoreOf(wanted: string, name: string): number | undefined {
  if (name === wanted) return 0;
  const allowed = Math.max(1, Math.floor(wanted.length / 3));
  // The rows of a distance are as long as the words: hostile names are long.
  if (Math.abs(name.length - wanted.length) <= allowed && wanted.length <= 100) {
    const distance = distanceBetween(wanted, name);
    if (distance <= allowed) return distance;
  }
  if (wanted.length >= 2 && name.startsWith(wanted)) return 10;
  if (wanted.length >= 3 && (name.includes(wanted) || name.endsWith(`/${wanted}`))) return 20;
  return undefined;
}

function distanceBetween(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      let best = Math.min(substitution, row[j]! + 1, next[j - 1]! + 1);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        best = Math.min(best, before[j - 2]! + 1);
      next.push(best);
    }
    before = row;
    row = next;
  }
  return row[b.length]!;
}
