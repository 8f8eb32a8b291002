export interface Column {
  readonly title: string;
  readonly align?: 'left' | 'right';
}

/** Lines of a table with its titles; columns two spaces apart, no trailing spaces. Cells must be printable already. */
export function tableLines(columns: readonly Column[], rows: readonly (readonly string[])[]): string[] {
  const all = [columns.map((column) => column.title), ...rows];
  return alignedLines(
    all,
    columns.map((column) => column.align ?? 'left'),
    '  ',
  );
}

/** Rows with every column as wide as its widest cell. */
export function alignedLines(
  rows: readonly (readonly string[])[],
  align: readonly ('left' | 'right')[],
  gap = ' ',
): string[] {
  const widths = align.map((_, index) =>
    rows.reduce((widest, row) => Math.max(widest, displayWidth(row[index] ?? '')), 0),
  );
  return rows.map((row) =>
    row
      .map((cell, index) => {
        const fill = ' '.repeat(Math.max(0, (widths[index] ?? 0) - displayWidth(cell)));
        return align[index] === 'right' ? fill + cell : cell + fill;
      })
      .join(gap)
      .trimEnd(),
  );
}

/** Columns on a terminal, near enough: East Asian wide characters and emoji count two, combining marks none. */
function displayWidth(text: string): number {
  if (/^[\x20-\x7e]*$/.test(text)) return text.length;
  let width = 0;
  for (const char of text) {
    if (/\p{Mark}/u.test(char)) continue;
    width += /\p{Extended_Pictographic}|\p{Script=Han}|\p{Script=Hangul}|\p{Script=Hiragana}|\p{Script=Katakana}/u.test(
      char,
    )
      ? 2
      : 1;
  }
  return width;
}
