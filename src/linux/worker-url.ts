/**
 * The file of a worker thread: beside this one under the same ending; in a bundle, beside the bundle.
 * @param name file name without its ending
 */
export const workerUrl = (name: string): URL => {
  const ending = /worker-url(\.[jt]s)$/.exec(import.meta.url)?.[1] ?? ".cjs";
  return new URL(`./${name}${ending}`, import.meta.url);
};
