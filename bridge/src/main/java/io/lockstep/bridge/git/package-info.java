// Copyright (C) 2026 The Lockstep Authors
//
// Licensed under the Apache License, Version 2.0 (the "License");
// you may not use this file except in compliance with the License.
// You may obtain a copy of the License at
//
// http://www.apache.org/licenses/LICENSE-2.0
//
// Unless required by applicable law or agreed to in writing, software
// distributed under the License is distributed on an "AS IS" BASIS,
// WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
// See the License for the specific language governing permissions and
// limitations under the License.

/**
 * Repositories whose refs the sidecar moves.
 *
 * <pre>
 * BridgeRepositoryManager     opens and creates repositories
 *   BridgeRepository          a layer around a repository of JGit
 *     BridgeRefDatabase       reads refs through JGit, creates updates
 *       BridgeRefUpdate       checks and result codes of JGit, commit by the sidecar
 *       BridgeBatchRefUpdate  the same for a batch, with AtomicBatchChecks and BatchPlan
 *       BridgeRefRename
 *     ProjectRefs             the calls to the sidecar
 *   PendingDeletions          deletions that the other sites do not know of yet
 * </pre>
 */
package io.lockstep.bridge.git;
