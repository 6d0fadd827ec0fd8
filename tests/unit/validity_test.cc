// SPDX-License-Identifier: LGPL-2.1-or-later
//
// By our schemas alone, so that it does not matter which libvirt is installed; tests/tool/test_validate.py has both.
#include "validity.h"

#include "support.h"

namespace virfloor::tool {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Verdict validate(const std::string& text)
{
    static Validator validator(SCHEMAS_DIR, "/nonexistent");
    return validator.validate(text);
}

std::vector<std::string> faults(const std::string& text)
{
    std::vector<std::string> result;
    for (const Fault& fault : validate(text).faults)
        result.push_back(std::to_string(fault.line) + ": " + fault.text);
    return result;
}

std::string domain(const std::string& interface)
{
    return "<domain type='kvm'>\n<name>x</name>\n<devices>\n<disk/>\n<interface type='network'>\n<source "
           "network='lab'/>\n" +
           interface + "\n</interface>\n</devices>\n</domain>\n";
}

TEST(Validity, SaysOfWhatKindItIsAndWhatLacks)
{
    const Verdict verdict = validate("<network><name>x</name></network>");
    EXPECT_EQ(verdict.kind, "network");
    EXPECT_EQ(verdict.lacking_schema, "/nonexistent/network.rng");
    EXPECT_TRUE(verdict.faults.empty());
    EXPECT_EQ(validate("<floornetwork/>").lacking_schema, "");
    EXPECT_EQ(validate("").kind, "");
}

TEST(Validity, EachFaultIsSaidOnceWhereItIs)
{
    EXPECT_THAT(faults(domain("<bandwidth><inbound average='1' floor='2'/></bandwidth>")), ElementsAre());
    EXPECT_THAT(faults(domain("<bandwidth>\n<inbound/>\n<outbound average='x'/></bandwidth>")),
                ElementsAre("8: bandwidth needs the attribute average or floor",
                            "9: bandwidth average 'x' is not a whole number from 0 to 18014398509481984"));
    EXPECT_THAT(faults(domain("<bandwidth><outbound floor='2'/></bandwidth>")),
                ElementsAre("7: a floor is for <inbound>, not for <outbound>"));
    EXPECT_THAT(faults(domain("<bandwidth/><bandwidth/>")), testing::SizeIs(1));
}

TEST(Validity, PortGroupsHaveNoFloors)
{
    EXPECT_THAT(faults("<network><name>x</name>\n<portgroup name='a'><bandwidth>\n<inbound average='3' floor='1'/>"
                       "</bandwidth></portgroup></network>"),
                ElementsAre("3: a floor is for interfaces of networks, not for port groups"));
}

TEST(Validity, FirstErrorOfBrokenText)
{
    EXPECT_THAT(faults("<network>\n<name>\n</network>"), ElementsAre(HasSubstr("3: Opening and ending tag mismatch")));
    EXPECT_THAT(faults(std::string("\0\1\2", 3)), ElementsAre(HasSubstr("1: ")));
    EXPECT_THAT(faults("\n<pool/>"), ElementsAre(HasSubstr("2: <pool> is not what can be validated here")));
    EXPECT_THAT(faults("<network xmlns='urn:x'/>"), ElementsAre(HasSubstr("1: <network> is not what")));
    EXPECT_THAT(faults("<!DOCTYPE network><network/>"), ElementsAre("1: a document type declaration is not allowed"));
}

TEST(Validity, SchemasMustBeThere)
{
    Validator validator("/nonexistent", "/nonexistent");
    EXPECT_REFUSED(system, validator.validate("<network/>"));
}

} // namespace
} // namespace virfloor::tool
