/**
 * Repositories whose refs the sidecar moves.
 *
 * <pre>
 * BridgeRepositoryManager   opens and creates; creation commits the name first
 *   BridgeRepository        one layer around JGit's repository
 *     BridgeRefDatabase     reads go to JGit, updates are made here
 *       BridgeRefUpdate     JGit's checks and codes, the sidecar's commit
 *       BridgeBatchRefUpdate, AtomicChecks
 *       BridgeRefRename
 * </pre>
 */
package io.lockstep.bridge.git;
