/** linux/magic.h: the file system of namespace files, as statfs(2) tells it. */
export const NSFS_MAGIC = 0x6e736673;

/**
 * The sticky bit means nothing on a file: it tells the empty files that our namespaces are mounted on from others'. It is seen while
 * nothing is mounted there: a process that is killed in umount2(2), which takes milliseconds, leaves such a file.
 */
export const placeMark = 0o1000;
