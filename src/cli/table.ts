/** Tables of the original: columns at least 20 wide, 3 spaces between, ids cut to 12 digits. */

const minimum = 20;
const padding = 3;

/**
 * @param closed true where the last cell of a row (not of the header) is padded too, as the original's network list has it
 */
export const table = (header: readonly string[], rows: readonly (readonly string[])[], closed = false): string => {
  const widths = header.map((title, column) => {
    const open = column === header.length - 1;
    const cells = [...(open ? [] : [title]), ...rows.map((row) => row[column] ?? "")];
    return Math.max(minimum, ...cells.map((cell) => cell.length + padding));
  });
  const line = (cells: readonly string[], padLast: boolean): string =>
    cells.map((cell, n) => (n < cells.length - 1 || padLast ? cell.padEnd(widths[n] ?? 0) : cell)).join("");
  return [line(header, false), ...rows.map((row) => line(row, closed))].map((text) => `${text}\n`).join("");
};

export const shortId = (id: string, whole: boolean): string => (whole ? id : id.slice(0, 12));
