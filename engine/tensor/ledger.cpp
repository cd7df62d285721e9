#include "engine/tensor/ledger.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace frost {

const char* name_of(Role role) {
  switch (role) {
    case Role::parameter:
      return "parameter";
    case Role::buffer:
      return "buffer";
    case Role::gradient:
      return "gradient";
    case Role::optimizer_state:
      return "optimizer state";
    case Role::saved_activation:
      return "saved activation";
    case Role::activation:
      return "transient activation";
    case Role::workspace:
      return "workspace";
    case Role::input:
      return "input";
  }
  return "?";
}

Ledger::Scope Ledger::scope(const std::string& name) {
  const auto [it, made] = scope_ids_.try_emplace(name, static_cast<Scope>(scope_names_.size()));
  if (made) {
    scope_names_.push_back(name);
    by_scope_.emplace_back();
  }
  return it->second;
}

void Ledger::add(Role role, Scope scope, std::int64_t bytes) {
  total_.add(bytes);
  roles_[static_cast<std::size_t>(role)].add(bytes);
  by_scope_[static_cast<std::size_t>(scope)][static_cast<std::size_t>(role)].add(bytes);
}

void Ledger::remove(Role role, Scope scope, std::int64_t bytes) { add(role, scope, -bytes); }

Ledger::Count Ledger::of(Role role, const std::string& scope) const {
  const auto it = scope_ids_.find(scope);
  return it == scope_ids_.end() ? Count{} : by_scope_[static_cast<std::size_t>(it->second)][static_cast<std::size_t>(role)];
}

void Ledger::reset_peaks() {
  total_.peak = total_.current;
  for (auto& count : roles_) count.peak = count.current;
  for (auto& scope : by_scope_)
    for (auto& count : scope) count.peak = count.current;
}

std::string Ledger::table() const {
  std::string text;
  const auto line = [&](const char* name, const Count& count) {
    text += fmt::format("{:<22}{:>10.1f} MB now{:>10.1f} MB peak\n", name, static_cast<double>(count.current) / 1e6,
                        static_cast<double>(count.peak) / 1e6);
  };
  for (int role = 0; role < kRoleCount; ++role)
    if (roles_[static_cast<std::size_t>(role)].peak > 0)
      line(name_of(static_cast<Role>(role)), roles_[static_cast<std::size_t>(role)]);
  line("total", total_);
  return text;
}

std::string Ledger::in_use() const {
  using Item = std::pair<std::int64_t, std::string>;
  const auto size = [](std::int64_t bytes) {
    const auto b = static_cast<double>(bytes);
    return bytes < 1'000'000'000 ? fmt::format("{:.1f} MB", b / 1e6) : fmt::format("{:.1f} GB", b / 1e9);
  };
  const auto largest = [&](std::vector<Item> items, const char* format) {
    std::sort(items.rbegin(), items.rend());
    items.resize(std::min<std::size_t>(items.size(), 3));
    std::vector<std::string> words;
    for (const auto& [bytes, name] : items)
      if (bytes > 0) words.push_back(fmt::format(fmt::runtime(format), name, size(bytes)));
    return fmt::format("{}", fmt::join(words, ", "));
  };
  std::vector<Item> roles, scopes;
  for (int role = 0; role < kRoleCount; ++role)
    roles.emplace_back(roles_[static_cast<std::size_t>(role)].current, name_of(static_cast<Role>(role)));
  for (std::size_t s = 0; s < by_scope_.size(); ++s) {
    std::int64_t bytes = 0;
    for (const Count& count : by_scope_[s]) bytes += count.current;
    if (!scope_names_[s].empty()) scopes.emplace_back(bytes, scope_names_[s]);
  }
  std::string text = size(total_.current) + " in use";
  if (const std::string most = largest(roles, "{} {}"); !most.empty()) text += ": " + most;
  if (const std::string most = largest(scopes, "{} ({})"); !most.empty()) text += "; most in " + most;
  return text;
}

}  // namespace frost
