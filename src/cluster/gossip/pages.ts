import type { Announcement } from "./announcement.ts";
import { maxAnswerBytes, sizeOf } from "./messages.ts";

/** Bytes of a page without its announcements, at most: five small numbers, two large ones, a digest. */
const headBytes = 48;

/** A list in pages that fit one answer each; which is on which page follows from the list alone. */
export const pagesOf = (announcements: readonly Announcement[]): readonly (readonly Announcement[])[] => {
  const pages: Announcement[][] = [];
  let room = 0;
  for (const announcement of announcements) {
    const size = sizeOf(announcement);
    if (size > room) {
      pages.push([]);
      room = maxAnswerBytes - headBytes;
    }
    pages.at(-1)?.push(announcement);
    room -= size;
  }
  return pages;
};
