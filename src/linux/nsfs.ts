/** linux/magic.h: the file system of namespace files, as statfs(2) tells it. */
export const NSFS_MAGIC = 0x6e736673;
