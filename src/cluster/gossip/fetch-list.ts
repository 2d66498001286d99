import { AnnouncedList } from "./announced-list.ts";
import type { GossipBus } from "./endpoint-gossip.ts";
import {
  type AnnouncementPage,
  type Mark,
  maxAnnouncements,
  messageName,
  readPage,
  writeQuestion,
} from "./messages.ts";

/** Pages asked for at the same time. */
const window = 8;
/** Milliseconds that one answer may take. */
const timeout = 3_000;

/**
 * Asks a member for all that it announces. The pages are of one moment, which the digest proves.
 * @throws where it does not answer, answers nonsense, or changed its list meanwhile: try again
 */
export const fetchList = async (
  bus: GossipBus,
  member: string,
  signal: AbortSignal,
): Promise<{ readonly mark: Omit<Mark, "digest">; readonly list: AnnouncedList }> => {
  const first = await askFor(bus, member, 0, signal);
  if (first.pages > maxAnnouncements) throw new Error(`${member} announces too much`);
  const list = AnnouncedList.of(first.announcements);
  for (let next = 1; next < first.pages; next += window) {
    const numbers = Array.from({ length: Math.min(window, first.pages - next) }, (_, n) => next + n);
    const pages = await Promise.all(numbers.map((page) => askFor(bus, member, page, signal)));
    for (const { epoch, sequence, announcements } of pages) {
      if (epoch !== first.epoch || sequence !== first.sequence) throw new Error(`${member} changes its services`);
      for (const announcement of announcements) list.put(announcement);
    }
  }
  if (list.digest !== first.digest || list.size > maxAnnouncements) throw new Error(`${member} tells less than it has`);
  return { mark: { epoch: first.epoch, sequence: first.sequence }, list };
};

const askFor = async (bus: GossipBus, member: string, page: number, signal: AbortSignal): Promise<AnnouncementPage> => {
  const answers = bus.query(messageName, writeQuestion(page), { nodes: [member], timeout, signal });
  for await (const { from, payload } of answers) {
    // What another member answers in its place counts for nothing.
    if (from !== member) continue;
    const answer = readPage(payload);
    if (!answer) throw new Error(`${member} answers what is no list of services`);
    return answer;
  }
  throw new Error(`${member} did not answer`);
};
