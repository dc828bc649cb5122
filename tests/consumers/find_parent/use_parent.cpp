#include <parent.hpp>

#include <iostream>

int main() {
  const long long kept = pruned_epoch(1000);
  std::cout << kept << " of 1000 samples\n";
  return kept > 600 && kept < 900 ? 0 : 1;
}
