# SPDX-License-Identifier: LGPL-2.1-or-later
# fish completion for virt-floor. Commands and options are what virt-floor itself says.

function __virt_floor_commands
    LC_ALL=C virt-floor --help 2>/dev/null | awk '/^Commands:/ { inside = 1; next } !NF { inside = 0 } inside { print $1 }'
end

function __virt_floor_virsh
    for uri in qemu:///system lxc:///system
        virsh --quiet --readonly --connect $uri $argv </dev/null 2>/dev/null
    end | string match --regex '\S.*' | sort -u
end

function __virt_floor_macs
    set --local words (commandline --tokenize --cut-at-cursor --current-process)
    test (count $words) -ge 3; and __virt_floor_virsh domiflist $words[3] | string match --regex '(?i)(?:[0-9a-f]{2}:){5}[0-9a-f]{2}'
end

function __virt_floor_options
    set --local words (commandline --tokenize --cut-at-cursor --current-process)
    LC_ALL=C virt-floor $words[2] --help 2>/dev/null | string match --regex --all -- '--[a-z][a-z-]*' | sort -u
end

function __virt_floor_word
    test (count (commandline --tokenize --cut-at-cursor --current-process)) -eq $argv[1]
end

complete --command virt-floor --no-files
complete --command virt-floor --condition __fish_use_subcommand --arguments '(__virt_floor_commands) --help --version'
complete --command virt-floor --condition 'not __fish_use_subcommand; and string match --quiet -- "-*" (commandline --current-token)' --arguments '(__virt_floor_options)'
complete --command virt-floor --condition '__fish_seen_subcommand_from tree check repair capacity' --arguments '(__virt_floor_virsh net-list --name)'
complete --command virt-floor --condition '__fish_seen_subcommand_from list top' --long-option network --short-option n --require-parameter --arguments '(__virt_floor_virsh net-list --name)'
complete --command virt-floor --condition '__fish_seen_subcommand_from list top' --long-option domain --short-option d --require-parameter --arguments '(__virt_floor_virsh list --all --name)'
complete --command virt-floor --condition '__fish_seen_subcommand_from set; and __virt_floor_word 2' --arguments '(__virt_floor_virsh list --all --name)'
complete --command virt-floor --condition '__fish_seen_subcommand_from set; and __virt_floor_word 3' --arguments '(__virt_floor_macs)'
complete --command virt-floor --condition '__fish_seen_subcommand_from validate' --force-files
