#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace frost {

/// Why a piece of memory exists.
enum class Role : std::uint8_t {
  parameter,
  buffer,
  gradient,
  optimizer_state,
  saved_activation,
  activation,
  workspace,
  input
};
inline constexpr int kRoleCount = 8;
const char* name_of(Role role);

/// Current and peak bytes for each role and each module scope. They show what freezing saves.
class Ledger {
 public:
  struct Count {
    std::int64_t current = 0, peak = 0;
    void add(std::int64_t bytes) {
      current += bytes;
      if (current > peak) peak = current;
    }
  };
  using Scope = int;  // index of a scope's name

  Scope scope(const std::string& name);  // the id of a module path, made when new
  const std::string& scope_name(Scope scope) const { return scope_names_[static_cast<std::size_t>(scope)]; }
  const std::vector<std::string>& scope_names() const { return scope_names_; }

  void add(Role role, Scope scope, std::int64_t bytes);
  void remove(Role role, Scope scope, std::int64_t bytes);

  Count total() const { return total_; }
  Count of(Role role) const { return roles_[static_cast<std::size_t>(role)]; }
  Count of(Role role, const std::string& scope) const;
  /// Peaks start again from the current values.
  void reset_peaks();
  /// One line for each role that ever held memory: "gradient  12.3 MB now, 14.0 MB peak".
  std::string table() const;
  /// One line about what is in use now: "8.1 GB in use: saved activation 5.0 GB, parameter 1.2 GB, ...; most in model.0
  /// (1.3 GB), model.2 (1.1 GB)".
  std::string in_use() const;

 private:
  Count total_;
  std::array<Count, kRoleCount> roles_{};
  std::vector<std::string> scope_names_{""};
  std::map<std::string, Scope> scope_ids_{{"", 0}};
  std::vector<std::array<Count, kRoleCount>> by_scope_ = std::vector<std::array<Count, kRoleCount>>(1);
};

}  // namespace frost
