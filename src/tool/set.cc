// SPDX-License-Identifier: LGPL-2.1-or-later
#include "commands.h"
#include "libvirt.h"
#include "options.h"
#include "virfloor/identity.h"
#include "virfloor/text.h"
#include "virfloor/xml.h"

#include <libvirt/virterror.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <iostream>

namespace virfloor::tool {

namespace {

// Typed parameters, which hold strings of libvirt's.
class Parameters {
public:
    explicit Parameters(int count) : items_(static_cast<std::size_t>(count)) {}
    Parameters(const Parameters&) = delete;
    Parameters& operator=(const Parameters&) = delete;
    ~Parameters() { virTypedParamsClear(items_.data(), count()); }

    virTypedParameterPtr data() { return items_.data(); }
    int count() const { return static_cast<int>(items_.size()); }
    void shrink(int count) { items_.resize(static_cast<std::size_t>(count)); }

    void set(const char* name, unsigned value)
    {
        auto at = std::ranges::find_if(items_, [&](const auto& item) { return std::strcmp(item.field, name) == 0; });
        if (at == items_.end())
            at = items_.insert(items_.end(), virTypedParameter{});
        std::strncpy(at->field, name, sizeof at->field - 1);
        at->type = VIR_TYPED_PARAM_UINT;
        at->value.ui = value;
    }

private:
    std::vector<virTypedParameter> items_;
};

DomainHandle find_domain(const virConnectPtr connection, const std::string& name)
{
    if (virDomainPtr found = virDomainLookupByName(connection, name.c_str()))
        return DomainHandle(found);
    if (virDomainPtr found = virDomainLookupByUUIDString(connection, name.c_str()))
        return DomainHandle(found);
    const auto id = parse_number(name);
    return DomainHandle(id && *id <= INT_MAX ? virDomainLookupByID(connection, static_cast<int>(*id)) : nullptr);
}

DomainHandle find_domain(const std::vector<Connection>& connections, const std::string& name)
{
    for (const Connection& connection : connections)
        if (DomainHandle found = find_domain(connection.get(), name))
            return found;
    throw Error(Refusal::system, format(_("There is no domain '%s'"), name.c_str()));
}

// libvirt sets a direction's values all at once; so the others are handed back as they are.
void set_floor(virDomainPtr domain, const std::string& mac, unsigned floor, unsigned flags)
{
    const std::string tried =
        format(_("Cannot set the floor of %s of domain '%s'"), mac.c_str(), virDomainGetName(domain));
    const auto check = [&tried](int result) {
        if (result < 0)
            throw libvirt_error(tried);
    };
    int count = 0;
    check(virDomainGetInterfaceParameters(domain, mac.c_str(), nullptr, &count, flags));
    Parameters parameters(count);
    check(virDomainGetInterfaceParameters(domain, mac.c_str(), parameters.data(), &count, flags));
    parameters.shrink(count);
    parameters.set(VIR_DOMAIN_BANDWIDTH_IN_FLOOR, floor);
    check(virDomainSetInterfaceParameters(domain, mac.c_str(), parameters.data(), parameters.count(), flags));
}

} // namespace

int set(int count, char** arguments)
{
    Common common;
    std::optional<std::uint64_t> floor;
    bool live = false, config = false;
    Options options(
        _("DOMAIN MAC"),
        _("Sets the floor of an interface, and leaves its average, peak and burst as they are. The domain is "
          "named by its name, UUID or ID."));
    options.number("floor", 'f', _("The floor in kB/s (1000 bytes a second); 0 takes it away"), _("RATE"), &floor);
    options.flag("live", 'l', _("Of the domain that runs"), &live);
    options.flag("config", 'C', _("Of the domain as it starts next time"), &config);
    common.add_to(options, false);
    const auto names = options.parse(count, arguments, 2, 2);
    const auto mac = MacAddress::parse(names[1]);
    if (!mac)
        throw UsageError(format(_("'%s' is not a MAC address, such as 52:54:00:12:34:56"), names[1].c_str()));
    if (!floor)
        throw UsageError(_("The option --floor is needed"));
    if (*floor > UINT_MAX)
        throw UsageError(format(_("--floor takes at most %u kB/s"), UINT_MAX));

    const auto connections = connect(common.uris, Access::read_write);
    const DomainHandle domain = find_domain(connections, names[0]);
    std::vector<unsigned> targets;
    if (live)
        targets.push_back(VIR_DOMAIN_AFFECT_LIVE);
    if (config)
        targets.push_back(VIR_DOMAIN_AFFECT_CONFIG);
    if (targets.empty())
        targets.push_back(VIR_DOMAIN_AFFECT_CURRENT);
    for (const unsigned flags : targets)
        set_floor(domain.get(), mac->text(), static_cast<unsigned>(*floor), flags);
    if (*floor)
        std::cout << format(_("%s of domain '%s' has a floor of %u kB/s"), mac->text().c_str(),
                            virDomainGetName(domain.get()), static_cast<unsigned>(*floor))
                  << '\n';
    else
        std::cout << format(_("%s of domain '%s' has no floor"), mac->text().c_str(), virDomainGetName(domain.get()))
                  << '\n';
    return exit_done;
}

} // namespace virfloor::tool
