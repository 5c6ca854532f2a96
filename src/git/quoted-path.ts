/** Paths as git writes them where there is no `-z`: in double quotes with C escapes, if they need it (core.quotePath). */
const ESCAPES: Readonly<Record<string, number>> = {
  a: 7,
  b: 8,
  t: 9,
  n: 10,
  v: 11,
  f: 12,
  r: 13,
  '"': 0x22,
  '\\': 0x5c,
};

export function unquotePath(text: Buffer): Buffer {
  if (text[0] !== 0x22 || text.at(-1) !== 0x22 || text.length < 2) return text;
  const bytes: number[] = [];
  for (let at = 1; at < text.length - 1; at++) {
    const byte = text[at]!;
    if (byte !== 0x5c) {
      bytes.push(byte);
      continue;
    }
    const digits = /^[0-3][0-7]{2}/.exec(text.toString('latin1', at + 1, at + 4))?.[0];
    if (digits !== undefined) {
      bytes.push(Number.parseInt(digits, 8));
      at += 3;
    } else {
      at++;
      bytes.push(ESCAPES[String.fromCharCode(text[at]!)] ?? text[at]!);
    }
  }
  return Buffer.from(bytes);
}
