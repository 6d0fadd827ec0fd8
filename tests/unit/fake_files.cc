// SPDX-License-Identifier: LGPL-2.1-or-later
#include "fake_files.h"

#include <glib.h>

#include <fcntl.h>
#include <sys/types.h>

#include <cerrno>
#include <cstdarg>

namespace virfloor::test {

FileFaults* FileFaults::current = nullptr;

namespace {

// True if the call is to fail; errno is set then.
bool fails(const char* function)
{
    const int error = FileFaults::current ? FileFaults::current->next(function) : -1;
    if (error < 0)
        return false;
    errno = error;
    return true;
}

} // namespace
} // namespace virfloor::test

using virfloor::test::fails;

extern "C" {

int __real_open64(const char*, int, mode_t);
ssize_t __real_pwrite64(int, const void*, size_t, off64_t);
int __real_fdatasync(int);
int __real_rename(const char*, const char*);
gboolean __real_g_file_set_contents_full(const gchar*, const gchar*, gssize, GFileSetContentsFlags, int, GError**);

int __wrap_open64(const char* path, int flags, ...)
{
    mode_t mode = 0;
    if (flags & O_CREAT) {
        va_list arguments;
        va_start(arguments, flags);
        mode = va_arg(arguments, mode_t);
        va_end(arguments);
    }
    const char* function = (flags & O_ACCMODE) == O_RDONLY ? "open to read" : "open to write";
    return fails(function) ? -1 : __real_open64(path, flags, mode);
}

ssize_t __wrap_pwrite64(int file, const void* data, size_t size, off64_t offset)
{
    if (!fails("pwrite"))
        return __real_pwrite64(file, data, size, offset);
    return errno == 0 ? __real_pwrite64(file, data, size / 2, offset) : -1;
}

int __wrap_fdatasync(int file) { return fails("fdatasync") ? -1 : __real_fdatasync(file); }

int __wrap_rename(const char* from, const char* to) { return fails("rename") ? -1 : __real_rename(from, to); }

gboolean __wrap_g_file_set_contents_full(const gchar* path, const gchar* contents, gssize size,
                                         GFileSetContentsFlags flags, int mode, GError** error)
{
    if (!fails("g_file_set_contents_full"))
        return __real_g_file_set_contents_full(path, contents, size, flags, mode, error);
    const int number = errno;
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(number), "cannot write %s: %s", path, g_strerror(number));
    errno = number;
    return FALSE;
}

} // extern "C"
