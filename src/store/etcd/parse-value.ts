import type { Json } from "../store.ts";

/** One value that is no JSON (somebody else wrote it) must not make the others unreadable; its reader refuses null. */
export const parseValue = (bytes: Buffer): Json => {
  try {
    return JSON.parse(bytes.toString()) as Json;
  } catch {
    return null;
  }
};
