// SPDX-License-Identifier: LGPL-2.1-or-later
#include "daemon.h"

#include "config.h"
#include "virfloor/error.h"
#include "virfloor/text.h"

#include <fcntl.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

namespace virfloor::tool {

namespace {

namespace fs = std::filesystem;

// 0 for none.
pid_t holder_of(const fs::path& pid_file)
{
    const Descriptor file(open(pid_file.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    struct flock lock {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    if (file.get() < 0 || fcntl(file.get(), F_GETLK, &lock) < 0 || lock.l_type == F_UNLCK)
        return 0;
    return lock.l_pid;
}

// Ours has the stock module's name, and loads that one: then there are two of them.
Daemon::Module module_of(pid_t pid)
{
    std::ifstream maps("/proc/" + std::to_string(pid) + "/maps");
    const std::string stock = STOCK_MODULE, name = "/" + fs::path(stock).filename().string();
    auto found = Daemon::Module::unknown;
    for (std::string line; std::getline(maps, line);) {
        const auto start = line.find('/');
        if (start == std::string::npos || line.find(name, start) == std::string::npos)
            continue;
        if (line.compare(start, stock.size(), stock) != 0)
            return Daemon::Module::loaded;
        found = Daemon::Module::missing;
    }
    return found;
}

} // namespace

std::optional<Daemon> find_daemon()
{
    const fs::path state = LIBVIRT_STATE_DIR;
    // Where there are both, the networks are virtnetworkd's.
    for (const char* name : {"virtnetworkd", "libvirtd"})
        for (const fs::path& folder : {state.parent_path(), state})
            if (const pid_t pid = holder_of(folder / (std::string(name) + ".pid")))
                return Daemon{name, pid, module_of(pid)};
    return {};
}

void reload(const Daemon& daemon)
{
    if (kill(daemon.pid, SIGHUP) == 0)
        return;
    throw Error(Refusal::system,
                format(errno == EPERM
                           ? _("Cannot tell %s (process %d) to go over its networks: %s; that is root's to do")
                           : _("Cannot tell %s (process %d) to go over its networks: %s"),
                       daemon.name.c_str(), daemon.pid, std::strerror(errno)),
                errno);
}

} // namespace virfloor::tool
