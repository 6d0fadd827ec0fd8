// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virfloor/bandwidth.h"

#include "virfloor/error.h"
#include "virfloor/text.h"
#include "virfloor/xml.h"

namespace virfloor {

namespace {

template <class Unit>
Quantity<Unit> number(const xmlNode* element, const char* name, Quantity<Unit> most)
{
    const auto text = attribute(element, name);
    if (!text)
        return {};
    const auto value = parse_number(*text);
    if (!value || *value > most.count)
        throw Error(Refusal::config_unsupported, format(_("bandwidth %s '%s' is not a whole number from 0 to %ju"),
                                                        name, text->c_str(), most.count));
    return {*value};
}

Rate parse_rate(const xmlNode* element)
{
    const Rate rate{number(element, "average", max_rate), number(element, "peak", max_rate),
                    number(element, "floor", max_rate), number(element, "burst", max_burst)};
    const bool has_average = attribute(element, "average").has_value();
    if (!has_average && !attribute(element, "floor"))
        throw Error(Refusal::invalid_xml, _("bandwidth needs the attribute average or floor"));
    if (!has_average && (rate.peak || rate.burst))
        throw Error(Refusal::config_unsupported, _("bandwidth attributes peak and burst need the attribute average"));
    return rate;
}

void parse_direction(const xmlNode* element, std::optional<Rate>& rate)
{
    if (rate)
        throw Error(Refusal::invalid_xml, _("bandwidth has two elements of one direction"));
    rate = parse_rate(element);
}

template <class Unit>
std::string print(const char* name, Quantity<Unit> value)
{
    return value ? std::string(" ") + name + "='" + std::to_string(value.count) + "'" : "";
}

std::string print(const char* element, const std::optional<Rate>& rate, const std::string& indent)
{
    if (!rate || (!rate->average && !rate->floor))
        return "";
    // They mean nothing without an average, and libvirt would not read them.
    const auto peak = rate->average ? rate->peak : KilobytesPerSecond{};
    const auto burst = rate->average ? rate->burst : Kibibytes{};
    return indent + "  <" + element + print("average", rate->average) + print("peak", peak) +
           print("floor", rate->floor) + print("burst", burst) + "/>\n";
}

} // namespace

Bandwidth parse_bandwidth(const xmlNode* element)
{
    Bandwidth bandwidth;
    for (const xmlNode* at : children(element)) {
        if (has_name(at, "inbound"))
            parse_direction(at, bandwidth.inbound);
        else if (has_name(at, "outbound"))
            parse_direction(at, bandwidth.outbound);
    }
    return bandwidth;
}

std::string format_bandwidth(const Bandwidth& bandwidth, std::optional<ClassId> id, int indent)
{
    const std::string margin(indent, ' ');
    const std::string attribute = id ? " classID='" + std::to_string(id->minor) + "'" : "";
    return margin + "<bandwidth" + attribute + ">\n" + print("inbound", bandwidth.inbound, margin) +
           print("outbound", bandwidth.outbound, margin) + margin + "</bandwidth>\n";
}

} // namespace virfloor
