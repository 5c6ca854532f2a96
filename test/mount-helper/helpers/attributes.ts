/** Attributes by their fields, for tests that compare them. */
import { type AttributeFields, Attributes } from '../../../src/mount-helper/fuse/answers.ts';

export function attributesOf(fields: AttributeFields): Attributes {
  return Object.assign(new Attributes(), fields);
}

export function fieldsOf(attributes: Attributes): AttributeFields {
  const { ino, size, blocks, mode, nlink, uid, gid, rdev, blksize } = attributes;
  const { atime, atimeNs, mtime, mtimeNs, ctime, ctimeNs } = attributes;
  return {
    ...{ ino, size, blocks, mode, nlink, uid, gid, rdev, blksize },
    ...{ atime, atimeNs, mtime, mtimeNs, ctime, ctimeNs },
  };
}
